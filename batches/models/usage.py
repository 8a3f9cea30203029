"""What lines took, added up: for tenants' reports, which outlive the batch."""

from django.db import models

from batches.models.jobs import Batch
from billing.fields import PicoField
from tenants.owned import Owned


class Usage(models.Model):
    """What the lines of one batch and model took on one day (UTC): moved by each commit, as the batch's counters."""

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="+", db_index=False)
    api_key = models.ForeignKey(
        "tenants.ApiKey", on_delete=models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    batch = models.ForeignKey(Batch, on_delete=models.SET_NULL, null=True, related_name="+", db_index=False)
    model = models.CharField(max_length=200)
    day = models.DateField(help_text="UTC.")
    completed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0, help_text="Lines that were run: not those that were skipped.")
    input_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost = PicoField(default=0, help_text="Pico-USD.")

    objects = Owned()

    class Meta:
        verbose_name_plural = "usage"
        constraints = [models.UniqueConstraint(fields=["batch", "model", "day"], name="usage_once")]
        indexes = [models.Index(fields=["tenant", "day"], name="usage_of_tenant")]

    def __str__(self) -> str:
        return f"{self.model} on {self.day} of batch {self.batch_id}"
