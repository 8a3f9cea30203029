"""What the engine works with: upstreams, runners, the permits and slices that are leased to them."""

from django.db import models
from django.db.models import Q

from batches.models.jobs import Batch
from tenants.owned import Owned, OwnedOrShared
from tenants.sealed_field import SealedField


class Upstream(models.Model):
    """A server that answers for one model. With a tenant it is dedicated to it."""

    class Kind(models.TextChoices):
        VLLM = "vllm"
        SGLANG = "sglang"
        LLAMACPP = "llamacpp"
        OTHER = "other"

    model = models.CharField(max_length=200, db_index=True)
    base_url = models.CharField(max_length=500)
    api_key = SealedField(purpose="upstream key", default="", blank=True, max_length=500)
    max_in_flight = models.PositiveIntegerField(default=64)
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    upstream_model = models.CharField(max_length=200, default="", blank=True, help_text="Its own name for the model.")
    kind = models.CharField(max_length=16, choices=Kind.choices, default=Kind.OTHER)
    enabled = models.BooleanField(default=True)
    severed = models.BooleanField(
        default=False, db_default=False, help_text="Of a disabled one: what is in flight there is given up."
    )
    embedded = models.BooleanField(default=False, help_text="The model that `up` serves itself.")
    cooling_until = models.DateTimeField(null=True, blank=True, help_text="It failed: a runner tries it again then.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = OwnedOrShared()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["model", "base_url"], name="shared_upstream_once", condition=Q(tenant=None)
            ),
            models.UniqueConstraint(fields=["model", "base_url", "tenant"], name="dedicated_upstream_once"),
            models.CheckConstraint(condition=Q(enabled=False) | Q(severed=False), name="severed_is_disabled"),
        ]

    def __str__(self) -> str:
        return f"{self.model} at {self.base_url}"


class Runner(models.Model):
    """A live runner loop: who holds slices and permits. Its row goes when it ends."""

    token = models.CharField(max_length=32, unique=True)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    started_ticks = models.BigIntegerField(help_text="The process's start: tells a pid from its reuse.")
    created_at = models.DateTimeField()
    lease_until = models.DateTimeField(db_index=True)
    draining = models.BooleanField(default=False, help_text="Sends nothing new: a successor has its place.")

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class Permit(models.Model):
    """In-flight slots of an upstream, leased to a runner; their sum never exceeds max_in_flight.

    Its figures are what the runner saw of the upstream, told at each heartbeat: read by engine/health.py.
    """

    FIGURES = ("in_flight", "limit", "answers", "throttled", "errors", "tokens")

    upstream = models.ForeignKey(Upstream, on_delete=models.CASCADE, related_name="permits")
    runner = models.ForeignKey(Runner, on_delete=models.CASCADE, related_name="permits")
    slots = models.PositiveIntegerField(default=0)
    wanted = models.PositiveIntegerField(default=0)
    in_flight = models.PositiveIntegerField(default=0, db_default=0)
    limit = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Adaptive: how many the upstream takes at once, as the runner has learned."
    )
    answers = models.PositiveIntegerField(default=0, db_default=0, help_text="Of the last minute.")
    throttled = models.PositiveIntegerField(default=0, db_default=0, help_text="Of the last minute: 429 and 503.")
    errors = models.PositiveIntegerField(default=0, db_default=0, help_text="Of the last minute: all other failures.")
    tokens = models.PositiveBigIntegerField(default=0, db_default=0, help_text="Of the last minute: in and out.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["upstream", "runner"], name="one_permit")]

    def __str__(self) -> str:
        return f"{self.slots} of {self.upstream}"


class Slice(models.Model):
    """A cut of a batch's planned order: one model, one range of the plan. Deleted when the batch has ended."""

    class State(models.IntegerChoices):
        WAITING = 0
        LEASED = 1
        DONE = 2

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="+")
    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="slices")
    index = models.PositiveIntegerField()
    model = models.CharField(max_length=200)
    offset = models.BigIntegerField(help_text="First byte in the plan.")
    length = models.BigIntegerField()
    lines = models.PositiveIntegerField()
    tokens = models.BigIntegerField(help_text="Estimated token work.")
    entries = models.BinaryField(help_text="Line number, offset, length, chain of each line: core/planning.py.")
    state = models.PositiveSmallIntegerField(choices=State.choices, default=State.WAITING)
    lease_token = models.CharField(max_length=32, default="", blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    runner = models.ForeignKey(Runner, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    attempts = models.PositiveIntegerField(default=0, help_text="Claims since the last commit or clean release.")
    sole_line = models.PositiveIntegerField(default=0, help_text="Of a suspect: the line last in flight alone.")
    sole_sends = models.PositiveSmallIntegerField(default=0, help_text="How often it was, without a result.")
    not_before = models.DateTimeField(null=True, blank=True, help_text="A released slice whose lines all wait.")
    carried = models.TextField(default="", blank=True, help_text="JSON: [line, attempts, not before] of tried lines.")
    virtual = models.FloatField(null=True, blank=True, help_text="Its tenant's virtual time after its first claim.")

    objects = Owned()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["batch", "index"], name="slice_once")]
        indexes = [
            models.Index(fields=["batch", "index"], name="slice_open", condition=Q(state__lt=2)),
            models.Index(
                fields=["model", "tenant", "virtual"], name="slice_tagged", condition=Q(virtual__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"slice {self.index} of batch {self.batch_id}"
