"""What is kept of an ended batch to prove its charge: its manifest, signed, and the keys that manifests were signed by.
The receipts themselves, a line each, are a stored File."""

from django.db import models

from batches.models.jobs import Batch
from tenants import clock
from tenants.owned import Owned


class SigningKey(models.Model):
    """The public half of a key that signed a manifest. It stays when SECRET_KEY, which the other half follows from,
    is changed."""

    key_id = models.CharField(max_length=16, unique=True)
    public_key = models.CharField(max_length=44, help_text="Ed25519, base64.")
    created_at = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return self.key_id


class Manifest(models.Model):
    """The account of one batch: the very text that was signed, and the signature."""

    batch = models.OneToOneField(Batch, on_delete=models.CASCADE, related_name="manifest")
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="+", db_index=False)
    key = models.ForeignKey(SigningKey, on_delete=models.PROTECT, related_name="+", db_index=False)
    signed = models.TextField(help_text="JSON; its UTF-8 bytes are signed.")
    signature = models.CharField(max_length=88, help_text="Ed25519, base64.")

    objects = Owned()

    def __str__(self) -> str:
        return f"manifest of batch {self.batch_id}"
