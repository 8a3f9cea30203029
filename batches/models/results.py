"""What came of the lines. A Result row is a line's terminal state, its receipt and its charge, all at once; a Segment
holds bodies on their way to the output file."""

from django.db import models

from batches.models.jobs import Batch
from tenants.owned import Owned


class Segment(models.Model):
    """The output lines of one commit, compressed: dropped when the output file is written."""

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="+")
    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="segments")
    data = models.BinaryField(help_text="zlib.")

    objects = Owned()

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

    objects = Owned()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["batch", "line"], name="first_record_wins")]

    def __str__(self) -> str:
        return f"line {self.line} of batch {self.batch_id}"
