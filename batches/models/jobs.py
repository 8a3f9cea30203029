"""What a tenant names: files and batches. States and transitions: core/states.py."""

import secrets

from django.db import models
from django.db.models import Q

from batches.core.states import ACTIVE, UNDELIVERED, Status
from billing.fields import PicoField
from tenants.identifiers import public_id
from tenants.owned import Owned


def file_id() -> str:
    return public_id("file-")


def batch_id() -> str:
    return public_id("batch_")


def secret() -> str:
    return secrets.token_hex(16)


class File(models.Model):
    """A stored object that a tenant can name: an input or an output."""

    class Purpose(models.TextChoices):
        BATCH = "batch"
        BATCH_OUTPUT = "batch_output"
        BATCH_RESULTS = "batch_results"  # output and errors in one, in input order: the native surface's
        BATCH_RECEIPTS = "batch_receipts"  # like these in no list of files

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
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="Its object is gone; batches still name it.")

    objects = Owned()

    class Meta:
        indexes = [
            models.Index(fields=["created_at"], name="file_age"),
            models.Index(fields=["tenant", "bytes"], name="file_stored", condition=Q(deleted_at=None)),
            models.Index(
                fields=["tenant", "expires_at"],
                name="file_late",
                condition=Q(expires_at__isnull=False, deleted_at=None),
            ),
        ]

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
    receipts_file = models.ForeignKey(
        File, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False,
        help_text="Null until it is sealed.",
    )  # fmt: skip
    retry_of = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    retry_causes = models.TextField(
        default="", db_default="", blank=True, help_text="Of a retry: which causes it took; empty: all. core/causes.py"
    )
    endpoint = models.CharField(max_length=40)
    model = models.CharField(max_length=200, null=True, blank=True, help_text="Null when lines name several.")
    metadata = models.TextField(default="{}", help_text="JSON object of strings, as the tenant sent it.")
    secret = models.CharField(max_length=32, default=secret, help_text="Key of the derived response ids.")
    on_invalid_line = models.CharField(
        max_length=8, choices=OnInvalidLine, default=OnInvalidLine.FAIL, db_default=OnInvalidLine.FAIL
    )
    output_expires_after = models.PositiveIntegerField(null=True, blank=True, help_text="Seconds its files are kept.")
    max_cost = PicoField(null=True, blank=True, help_text="Pico-USD at which it is paused.")
    max_error_rate = models.FloatField(null=True, blank=True, help_text="Share of failed lines above which it pauses.")

    status = models.CharField(max_length=16, choices=[(status, status) for status in Status], default=Status.VALIDATING)
    paused_reason = models.CharField(
        max_length=20, default="", db_default="", blank=True, help_text="What paused it. In in_progress alone."
    )
    held_back = models.BooleanField(
        default=False, db_default=False, help_text="It was paused, or its tenant suspended: 24 hours are not promised."
    )
    raised = models.BooleanField(
        default=False,
        db_default=False,
        help_text="By an operator: before all but those in danger of their deadline.",
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
    last_result_at = models.DateTimeField(null=True, blank=True, help_text="When lines of it were committed last.")
    last_seq = models.PositiveIntegerField(default=0, help_text="The highest Result.seq given out.")
    wasted = models.PositiveIntegerField(default=0, help_text="Answers that came too late to be taken.")
    input_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost = PicoField(default=0, help_text="Pico-USD.")
    reserved = PicoField(
        default=0,
        db_default=0,
        help_text="Pico-USD that it may cost, as far as that is known.",
    )
    sla_met = models.BooleanField(
        null=True, blank=True, help_text="Whether it was there at its deadline; null: not ended, or not promised."
    )
    sla_credit = PicoField(default=0, db_default=0, help_text="Pico-USD given because it was not.")
    rates = models.TextField(default="{}", help_text="JSON: model -> frozen batch rates, pico-USD per million tokens.")
    plan_key = models.CharField(max_length=200, default="", blank=True, help_text="The object that slices are cut of.")
    errors = models.TextField(default="", blank=True, help_text="JSON list of what is wrong with the input.")
    erased_at = models.DateTimeField(null=True, blank=True, help_text="When its data was deleted on request.")
    expected_at = models.DateTimeField(null=True, blank=True, help_text="When it should end; null: nobody knows.")
    waiting_reason = models.CharField(
        max_length=300, default="", db_default="", blank=True, help_text="What it waits for: a code, and a sentence."
    )

    objects = Owned()

    class Meta:
        verbose_name_plural = "batches"
        permissions = [
            ("cancel_batch", "Can cancel batches"),
            ("pause_batch", "Can pause batches, and let them go on"),
            ("retry_batch", "Can run again what batches did not deliver"),
            ("raise_batch", "Can raise the priority of batches"),
            ("erase_batch", "Can delete the data of ended batches"),
            ("break_glass", "Can look at prompts and answers, with a reason"),
        ]
        indexes = [
            models.Index(fields=["created_at"], name="batch_age"),
            models.Index(fields=["tenant", "-id"], name="batch_of_tenant"),
            models.Index(fields=["tenant", "ended_at"], name="batch_promised", condition=Q(sla_met__isnull=False)),
            models.Index(fields=["ended_at", "sla_met"], name="batch_kept", condition=Q(sla_met__isnull=False)),
            models.Index(fields=["status", "id"], name="batch_active", condition=Q(status__in=ACTIVE)),
            models.Index(fields=["status", "ended_at"], name="batch_unsealed", condition=Q(receipts_file=None)),
            models.Index(fields=["status", "id"], name="batch_undelivered", condition=Q(status__in=UNDELIVERED)),
            models.Index(fields=["receipts_file"], name="batch_receipts", condition=Q(receipts_file__isnull=False)),
            models.Index(fields=["id"], name="batch_missed", condition=Q(sla_met=False)),
        ]

    def __str__(self) -> str:
        return self.public_id
