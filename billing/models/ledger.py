"""The ledger: append-only and double-entry. The database itself refuses to change or remove a row (migration 0002).

An entry moves an amount from one account to another, so that the books balance by their shape:

    batch_charge    debit receivable   credit revenue      what a batch costs, once, at its end
    credit_grant    debit goodwill     credit credits      credits given by the operator
    sla_credit      debit goodwill     credit credits      credits for a batch that missed its 24 hours
    credit_purchase debit cash         credit credits      credits that were paid for
    credit_use      debit credits      credit receivable   credits that pay for a charge, at once and as far as they go
    carried         debit receivable   credit credits      what corrections of a month left over, at its invoice
    payment         debit cash         credit receivable   an invoice was paid
    write_off       debit loss         credit receivable   an invoice will not be paid: voided, or given up
    rounding        debit receivable   credit rounding     an invoice's whole cents beyond its exact sum (or reversed)
    correction      the accounts of the entry it reverses, exchanged
"""

from django.db import models
from django.db.models import Q

from billing import money
from billing.fields import PicoField
from tenants import clock
from tenants.owned import Owned


def debited(account: str, debit: str, credit: str, amount: int) -> int:
    """By how much moving the amount to `debit` from `credit` moves what stands on the debit side of `account`."""
    return (int(debit == account) - int(credit == account)) * amount


class LedgerEntry(models.Model):
    """An amount that moved between two of a tenant's accounts. A correction is a new entry."""

    class Kind(models.TextChoices):
        BATCH_CHARGE = "batch_charge"
        CREDIT_GRANT = "credit_grant"
        SLA_CREDIT = "sla_credit"
        CREDIT_PURCHASE = "credit_purchase"
        CREDIT_USE = "credit_use"
        CARRIED = "carried"
        PAYMENT = "payment"
        WRITE_OFF = "write_off"
        ROUNDING = "rounding"
        CORRECTION = "correction"

    class Account(models.TextChoices):
        RECEIVABLE = "receivable"  # what the tenant owes
        CREDITS = "credits"  # what the tenant has in advance: owed to it
        REVENUE = "revenue"
        CASH = "cash"
        GOODWILL = "goodwill"
        LOSS = "loss"
        ROUNDING = "rounding"

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="ledger", db_index=False)
    kind = models.CharField(max_length=32, choices=Kind.choices)
    reference = models.CharField(max_length=100, help_text="The public id of what it is for.")
    debit = models.CharField(max_length=16, choices=Account.choices, db_default=Account.RECEIVABLE)
    credit = models.CharField(max_length=16, choices=Account.choices, db_default=Account.REVENUE)
    amount = PicoField(help_text="Pico-USD, never negative.")
    note = models.CharField(max_length=200, default="", blank=True)
    reverses = models.OneToOneField("self", on_delete=models.PROTECT, null=True, blank=True, related_name="reversed_by")
    created_at = models.DateTimeField(default=clock.now)

    objects = Owned()

    class Meta:
        permissions = [("correct_ledgerentry", "Can take back entries by new ones")]
        verbose_name_plural = "ledger entries"
        constraints = [
            models.UniqueConstraint(fields=["kind", "reference"], name="charged_once"),
            models.CheckConstraint(condition=Q(amount__gte=0), name="ledger_amount_not_negative"),
            models.CheckConstraint(condition=~Q(debit=models.F("credit")), name="ledger_two_accounts"),
        ]
        indexes = [
            models.Index(fields=["tenant", "created_at"], name="ledger_of_tenant"),
            models.Index(fields=["reference"], name="ledger_of_reference"),
            models.Index(fields=["created_at"], name="ledger_age"),
            models.Index(
                fields=["tenant"], name="ledger_of_credits", condition=Q(debit="credits") | Q(credit="credits")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.reference}: {money.usd(self.amount)} USD"

    @property
    def owed(self) -> int:
        """By how much it moves what the tenant owes, pico-USD."""
        return self._debited(self.Account.RECEIVABLE)

    @property
    def credited(self) -> int:
        """By how much it moves the credits that the tenant has, pico-USD."""
        return -self._debited(self.Account.CREDITS)

    def _debited(self, account: str) -> int:
        return debited(account, self.debit, self.credit, int(self.amount))


class ChargeLine(models.Model):
    """What a batch's charge is made of: one model on one day (UTC). As unchangeable as its entry."""

    entry = models.ForeignKey(LedgerEntry, on_delete=models.PROTECT, related_name="lines")
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="+", db_index=False)
    model = models.CharField(max_length=200)
    day = models.DateField(help_text="UTC.")
    requests = models.PositiveIntegerField(help_text="Lines that were delivered.")
    input_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    amount = PicoField(help_text="Pico-USD.")

    objects = Owned()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["entry", "model", "day"], name="charge_line_once")]

    def __str__(self) -> str:
        return f"{self.model} on {self.day}: {money.usd(self.amount)} USD"
