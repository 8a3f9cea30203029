"""The month's money (UTC): what the ledger moved, and what becomes of invoices."""

from datetime import datetime
from typing import NamedTuple

from django.db.models import Count, Q, Sum

from billing import money
from billing.fields import Total
from billing.ledger import Account, Kind
from billing.models import Invoice, LedgerEntry
from tenants import clock


class Takings(NamedTuple):
    """Pico-USD, of this month's entries."""

    charged: int = 0  # for batches
    taken_back: int = 0  # of charges, of whichever month
    granted: int = 0  # credits given
    sla: int = 0  # credits for missed 24 hours
    withdrawn: int = 0  # of credits given or for missed 24 hours
    bought: int = 0  # credits that were paid for
    paid: int = 0  # invoices


class Dues(NamedTuple):
    """Invoices that are to be paid. Sums are pico-USD."""

    open: int = 0
    owed: int = 0
    past_due: int = 0  # of tenants whose new batches are refused for it
    overdue: int = 0
    unsent: int = 0  # that Stripe would not take so far


_MEANING = {
    (Account.RECEIVABLE, Account.REVENUE): "charged",
    (Account.REVENUE, Account.RECEIVABLE): "taken_back",
    (Account.CREDITS, Account.GOODWILL): "withdrawn",
    (Account.CASH, Account.CREDITS): "bought",
    (Account.CASH, Account.RECEIVABLE): "paid",
}
_NAMED = {Kind.CREDIT_GRANT: "granted", Kind.SLA_CREDIT: "sla"}


def takings(now: datetime) -> Takings:
    """One query."""
    first = clock.midnight(now.date().replace(day=1))
    rows = LedgerEntry.objects.filter(created_at__gte=first).order_by().values_list("kind", "debit", "credit")
    found = dict.fromkeys(Takings._fields, 0)
    for kind, debit, credit, amount in rows.annotate(Total("amount")):
        name = _NAMED.get(kind) or _MEANING.get((debit, credit))
        if name:
            found[name] += int(amount or 0)
    return Takings(**found)


UNSENT = Q(status=Invoice.Status.OPEN, send_at__isnull=False, sent_at=None) & ~Q(send_error="")


def dues() -> Dues:
    """One query."""
    late = Q(tenant__customer__past_due_since__isnull=False)
    sums = Invoice.objects.filter(status=Invoice.Status.OPEN).aggregate(
        open=Count("pk"), owed=Sum("cents", default=0), past_due=Count("pk", filter=late),
        overdue=Sum("cents", filter=late, default=0), unsent=Count("pk", filter=UNSENT),
    )  # fmt: skip
    return Dues(**sums)._replace(owed=sums["owed"] * money.CENT, overdue=sums["overdue"] * money.CENT)
