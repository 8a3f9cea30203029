"""How much: price versions in time, and the ledger. Batches are known here by their public id only.

Money is whole pico-USD (10^-12). Rates are pico-USD a token at the standard price: a price of at most 6 decimals
per million tokens is a whole number of them.
"""

from django.db import models
from django.utils import timezone

from billing.fields import PicoField


class Price(models.Model):
    """One version of a model's standard price. Never edited and never back-dated: a change is a new row."""

    model = models.CharField(max_length=200)
    input = models.BigIntegerField(help_text="Pico-USD per input token, standard rate.")
    cached_input = models.BigIntegerField(help_text="Pico-USD per cached input token.")
    output = models.BigIntegerField(help_text="Pico-USD per output token.")
    effective_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["model", "-effective_at"], name="price_in_force")]

    def __str__(self) -> str:
        return f"{self.model} from {self.effective_at:%Y-%m-%d %H:%M}"


class LedgerEntry(models.Model):
    """An entry of the append-only ledger: a positive amount is owed by the tenant."""

    class Kind(models.TextChoices):
        BATCH_CHARGE = "batch_charge"

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="ledger")
    kind = models.CharField(max_length=32, choices=Kind.choices)
    reference = models.CharField(max_length=64, help_text="The public id of what is charged.")
    amount = PicoField(help_text="Pico-USD.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "ledger entries"
        constraints = [models.UniqueConstraint(fields=["kind", "reference"], name="charged_once")]

    def __str__(self) -> str:
        return f"{self.kind} {self.reference}: {self.amount}"
