"""The job's rows. A Result row is a line's terminal state, its receipt and its charge, all at once.

Nothing is written per line before its Result. Everything else here is a plan (Slice), bodies on their way to the
output file (Segment), or can be rebuilt from Results. States and transitions: core/states.py.
"""

import secrets
import string

from django.db import models
from django.db.models import Q

from batches.core.states import ACTIVE, Status
from billing.fields import PicoField

ALPHABET = string.digits + string.ascii_letters


def _public_id(prefix: str) -> str:
    return prefix + "".join(secrets.choice(ALPHABET) for _ in range(24))


def file_id() -> str:
    return _public_id("file-")


def batch_id() -> str:
    return _public_id("batch_")


def secret() -> str:
    return secrets.token_hex(16)


class File(models.Model):
    """A stored object that a tenant can name: an input or an output."""

    class Purpose(models.TextChoices):
        BATCH = "batch"
        BATCH_OUTPUT = "batch_output"

    public_id = models.CharField(max_length=40, unique=True, default=file_id)
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="files")
    purpose = models.CharField(max_length=16, choices=Purpose.choices)
    filename = models.CharField(max_length=255)
    bytes = models.BigIntegerField()
    lines = models.PositiveIntegerField(help_text="Lines that are not blank.")
    sha256 = models.CharField(max_length=64)
    storage_key = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.public_id


class Batch(models.Model):
    """A tenant's job: one input file, one endpoint, one deadline."""

    class OnInvalidLine(models.TextChoices):
        FAIL = "fail"  # the batch
        SKIP = "skip"  # the line alone

    public_id = models.CharField(max_length=40, unique=True, default=batch_id)
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="batches")
    api_key = models.ForeignKey("tenants.ApiKey", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    input_file = models.ForeignKey(File, on_delete=models.PROTECT, related_name="+")
    results_file = models.ForeignKey(File, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    output_file = models.ForeignKey(File, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    error_file = models.ForeignKey(File, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    retry_of = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    endpoint = models.CharField(max_length=40)
    model = models.CharField(max_length=200, null=True, blank=True, help_text="Null when lines name several.")
    metadata = models.TextField(default="{}", help_text="JSON object of strings, as the tenant sent it.")
    secret = models.CharField(max_length=32, default=secret, help_text="Key of the derived response ids.")
    on_invalid_line = models.CharField(
        max_length=8, choices=OnInvalidLine, default=OnInvalidLine.FAIL, db_default=OnInvalidLine.FAIL
    )
    max_cost = PicoField(null=True, blank=True, help_text="Pico-USD at which it is paused.")
    max_error_rate = models.FloatField(null=True, blank=True, help_text="Share of failed lines above which it pauses.")

    status = models.CharField(max_length=16, choices=[(status, status) for status in Status], default=Status.VALIDATING)
    paused_reason = models.CharField(
        max_length=20, default="", db_default="", blank=True, help_text="Which cap paused it. In in_progress alone."
    )
    created_at = models.DateTimeField()
    deadline = models.DateTimeField()
    in_progress_at = models.DateTimeField(null=True, blank=True)
    cancelling_at = models.DateTimeField(null=True, blank=True)
    expiring_at = models.DateTimeField(null=True, blank=True)
    finalizing_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True, help_text="When the terminal status was set.")
    step_token = models.CharField(max_length=120, default="", blank=True, help_text="Lease of validate or finalize.")
    step_until = models.DateTimeField(null=True, blank=True)
    step_attempts = models.PositiveIntegerField(default=0, help_text="Counted at the claim.")

    total = models.PositiveIntegerField(help_text="Lines that are not blank.")
    completed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    base_completed = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Of completed: before the error rate is measured from."
    )
    base_failed = models.PositiveIntegerField(default=0, db_default=0, help_text="Of failed: the same.")
    last_seq = models.PositiveIntegerField(default=0, help_text="The highest Result.seq given out.")
    wasted = models.PositiveIntegerField(default=0, help_text="Answers that came too late to be taken.")
    input_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost = PicoField(default=0, help_text="Pico-USD.")
    rates = models.TextField(default="{}", help_text="JSON: model -> frozen batch rates, pico-USD per million tokens.")
    plan_key = models.CharField(max_length=200, default="", blank=True, help_text="The object that slices are cut of.")
    errors = models.TextField(default="", blank=True, help_text="JSON list of what is wrong with the input.")
    expected_at = models.DateTimeField(null=True, blank=True, help_text="When it should end; null: nobody knows.")
    waiting_reason = models.CharField(
        max_length=300, default="", db_default="", blank=True, help_text="What it waits for: a code, and a sentence."
    )

    class Meta:
        verbose_name_plural = "batches"
        indexes = [
            models.Index(fields=["tenant", "-id"], name="batch_of_tenant"),
            models.Index(fields=["status", "id"], name="batch_active", condition=Q(status__in=ACTIVE)),
        ]

    def __str__(self) -> str:
        return self.public_id


class Upstream(models.Model):
    """A server that answers for one model. With a tenant it is dedicated to it."""

    class Kind(models.TextChoices):
        VLLM = "vllm"
        SGLANG = "sglang"
        LLAMACPP = "llamacpp"
        OTHER = "other"

    model = models.CharField(max_length=200, db_index=True)
    base_url = models.CharField(max_length=500)
    api_key = models.CharField(max_length=500, default="", blank=True)
    max_in_flight = models.PositiveIntegerField(default=64)
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    upstream_model = models.CharField(max_length=200, default="", blank=True, help_text="Its own name for the model.")
    kind = models.CharField(max_length=16, choices=Kind.choices, default=Kind.OTHER)
    enabled = models.BooleanField(default=True)
    embedded = models.BooleanField(default=False, help_text="The model that `up` serves itself.")
    cooling_until = models.DateTimeField(null=True, blank=True, help_text="It failed: a runner tries it again then.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["model", "base_url"], name="shared_upstream_once", condition=Q(tenant=None)
            ),
            models.UniqueConstraint(fields=["model", "base_url", "tenant"], name="dedicated_upstream_once"),
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
    """In-flight slots of an upstream, leased to a runner; their sum never exceeds max_in_flight."""

    upstream = models.ForeignKey(Upstream, on_delete=models.CASCADE, related_name="permits")
    runner = models.ForeignKey(Runner, on_delete=models.CASCADE, related_name="permits")
    slots = models.PositiveIntegerField(default=0)
    wanted = models.PositiveIntegerField(default=0)

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


class Segment(models.Model):
    """The output lines of one commit, compressed: dropped when the output file is written."""

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="+")
    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="segments")
    data = models.BinaryField(help_text="zlib.")

    def __str__(self) -> str:
        return f"segment {self.pk} of batch {self.batch_id}"


class Result(models.Model):
    """The terminal record of one line: written once, kept as the receipt."""

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="+", db_index=False)
    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="results", db_index=False)
    line = models.PositiveIntegerField(help_text="1-based line of the input file.")
    seq = models.PositiveIntegerField(help_text="Order of commit within the batch.")
    custom_id = models.CharField(max_length=512)
    status_code = models.PositiveSmallIntegerField(null=True)
    error_code = models.CharField(max_length=40, default="", blank=True, help_text="Empty when delivered.")
    flag = models.CharField(max_length=40, default="", blank=True, help_text="usage_missing: delivered uncharged.")
    input_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost = models.BigIntegerField(default=0, help_text="Pico-USD.")
    attempts = models.PositiveSmallIntegerField(default=1)
    upstream_id = models.BigIntegerField(null=True, help_text="The Upstream's key, kept when that row goes.")
    latency_ms = models.PositiveIntegerField(default=0)
    finished_at = models.DateTimeField()
    segment_id = models.BigIntegerField(help_text="The Segment's key while it exists.")
    offset = models.PositiveIntegerField(help_text="Of the output line in the segment, decompressed.")
    length = models.PositiveIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["batch", "line"], name="first_record_wins")]

    def __str__(self) -> str:
        return f"line {self.line} of batch {self.batch_id}"
