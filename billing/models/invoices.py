"""Invoices: what a tenant's ledger came to in a month, in whole cents."""

from django.db import models

from billing.fields import PicoField
from billing.models.ledger import LedgerEntry
from tenants import clock
from tenants.identifiers import public_id
from tenants.owned import Owned


def invoice_id() -> str:
    return public_id("inv_")


class Invoice(models.Model):
    """The closed account of a tenant's month. Its lines are the ledger's own rows: nothing is stored twice."""

    class Status(models.TextChoices):
        OPEN = "open"  # to be paid
        PAID = "paid"  # or nothing was owed
        VOID = "void"  # or uncollectible: written off

    public_id = models.CharField(max_length=40, unique=True, default=invoice_id)
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="invoices", db_index=False)
    month = models.DateField(help_text="Its first day, UTC.")
    due = PicoField(help_text="Pico-USD, exact: charges and corrections without what credits paid.")
    cents = models.BigIntegerField(help_text="The same rounded once, half up, to whole cents.")
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.OPEN)
    created_at = models.DateTimeField(default=clock.now)
    settled_at = models.DateTimeField(null=True, blank=True, help_text="When it was paid or written off.")
    stripe_id = models.CharField(max_length=64, null=True, blank=True, unique=True, help_text="in_…")
    stripe_url = models.CharField(max_length=500, default="", blank=True, help_text="Stripe's page of it.")
    sent_at = models.DateTimeField(null=True, blank=True, help_text="When Stripe had all of it.")
    send_attempts = models.PositiveIntegerField(default=0, help_text="Counted at the claim.")
    send_at = models.DateTimeField(null=True, blank=True, help_text="When to send it, again; null: not at all.")
    send_token = models.CharField(max_length=40, default="", blank=True, help_text="Lease of the sending.")
    send_error = models.CharField(max_length=300, default="", blank=True)

    objects = Owned()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "month"], name="invoiced_once")]
        indexes = [
            models.Index(fields=["send_at"], name="invoice_to_send", condition=models.Q(send_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"invoice {self.public_id}"

    @property
    def at_stripe(self) -> bool:
        """Whether Stripe has it, or is about to: it is settled there."""
        return bool(self.stripe_id or self.send_token)


class InvoicedEntry(models.Model):
    """Which invoice a ledger entry is on: one, for ever."""

    entry = models.OneToOneField(LedgerEntry, on_delete=models.PROTECT, related_name="invoiced", primary_key=True)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="entries")
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="+", db_index=False)

    objects = Owned()

    class Meta:
        verbose_name_plural = "invoiced entries"

    def __str__(self) -> str:
        return f"entry {self.entry_id} on invoice {self.invoice_id}"
