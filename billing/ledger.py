"""Posting to the ledger, and what its accounts come to. Every posting is once: its kind and reference are unique."""

from collections.abc import Iterable
from datetime import date
from typing import NamedTuple

from django.db.models import Q

from billing.fields import Total
from billing.models import ChargeLine, LedgerEntry
from tenants import admission, clock

Kind, Account = LedgerEntry.Kind, LedgerEntry.Account
Accounts = tuple[str, str]  # debit, credit
ACCOUNTS: dict[LedgerEntry.Kind, Accounts] = {
    Kind.BATCH_CHARGE: (Account.RECEIVABLE, Account.REVENUE),
    Kind.CREDIT_GRANT: (Account.GOODWILL, Account.CREDITS),
    Kind.SLA_CREDIT: (Account.GOODWILL, Account.CREDITS),
    Kind.CREDIT_PURCHASE: (Account.CASH, Account.CREDITS),
    Kind.CREDIT_USE: (Account.CREDITS, Account.RECEIVABLE),
    Kind.CARRIED: (Account.RECEIVABLE, Account.CREDITS),
    Kind.PAYMENT: (Account.CASH, Account.RECEIVABLE),
    Kind.WRITE_OFF: (Account.LOSS, Account.RECEIVABLE),
}
LONGEST_REFERENCE = 80  # characters, of credits: with their kind before it, it is their correction's
LONGEST_NOTE = 200


class Taken(NamedTuple):
    """What a batch's delivered lines of one model on one day (UTC) took: tokens, and pico-USD."""

    model: str
    day: date
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: int


def check_text(name: str, text: str, most: int) -> None:
    """What people read of an entry, its PDF among it. Raises ValueError with the cure."""
    if len(text) > most or not text.isprintable():
        raise ValueError(f"A {name} is of at most {most} printable characters.")


def post(
    tenant: int, kind: str, reference: str, amount: int, note: str = "", accounts: Accounts | None = None
) -> LedgerEntry | None:
    """Move `amount` pico-USD between the accounts of its kind, or these; None when it was posted before."""
    debit, credit = accounts or ACCOUNTS[Kind(kind)]
    entry, posted = LedgerEntry.objects.get_or_create(
        kind=kind,
        reference=reference,
        defaults={
            "tenant_id": tenant,
            "debit": debit,
            "credit": credit,
            "amount": amount,
            "note": note,
            "created_at": clock.now(),
        },
    )
    return entry if posted else None


def charge_batch(tenant: int, batch: str, pico: int, taken: Iterable[Taken], sla_credit: int = 0) -> bool:
    """Charge the batch with public id `batch`, once; credits, first those for its own lateness, pay as far as they go.

    In the transaction that ends the batch, which nothing here prevents: `reconcile` names what does not add up.
    """
    admission.lock(tenant)  # of batches that end at once, each sees the credits that the others left
    entry = post(tenant, Kind.BATCH_CHARGE, batch, pico)
    if entry is None:
        return False
    ChargeLine.objects.bulk_create(
        ChargeLine(entry=entry, tenant_id=tenant, amount=cost, **measures)
        for cost, measures in ((part.cost, _measures(part)) for part in taken)
    )
    if sla_credit:
        post(tenant, Kind.SLA_CREDIT, batch, sla_credit, "It missed its 24 hours.")
    if used := min(pico, max(balance(tenant, Account.CREDITS), 0)):
        post(tenant, Kind.CREDIT_USE, batch, used)
    return True


def _measures(part: Taken) -> dict[str, object]:
    measures = part._asdict()
    del measures["cost"]
    return measures


def correct(entry: LedgerEntry, note: str) -> LedgerEntry | None:
    """Reverse an entry by a new one; None when it was reversed before."""
    correction, posted = LedgerEntry.objects.get_or_create(
        kind=Kind.CORRECTION,
        reference=f"{entry.kind}:{entry.reference}",
        defaults={
            "tenant_id": entry.tenant_id,
            "debit": entry.credit,
            "credit": entry.debit,
            "amount": entry.amount,
            "reverses": entry,
            "note": note,
            "created_at": clock.now(),
        },
    )
    return correction if posted else None


def balance(tenant: int, account: str) -> int:
    """What an account of the tenant holds, pico-USD: of `receivable` what it owes, of `credits` what it has left."""
    return balances([tenant], account).get(tenant, 0)


def balances(tenants: Iterable[int], account: str) -> dict[int, int]:
    """The same of several; of those alone that have an entry there."""
    rows = LedgerEntry.objects.filter(Q(debit=account) | Q(credit=account), tenant_id__in=tenants).order_by()
    sums = rows.values_list("tenant_id").annotate(
        plus=Total("amount", filter=Q(debit=account)), minus=Total("amount", filter=Q(credit=account))
    )
    sign = 1 if account == Account.RECEIVABLE else -1
    return {tenant: sign * (int(plus or 0) - int(minus or 0)) for tenant, plus, minus in sums}


def charged_since(tenant: int, first: date) -> int:
    """Pico-USD of the batches charged since the beginning of the day `first` (UTC), less what was taken back of them.

    What was charged before, and taken back since, makes no room: it was never a part of this.
    """
    begin = clock.midnight(first)
    entries = LedgerEntry.objects.filter(tenant_id=tenant, created_at__gte=begin)
    charges = Q(debit=Account.RECEIVABLE, credit=Account.REVENUE)
    reversals = Q(debit=Account.REVENUE, credit=Account.RECEIVABLE, reverses__created_at__gte=begin)
    plus, minus = (
        rows.aggregate(sum=Total("amount"))["sum"] or 0
        for rows in (entries.filter(charges), entries.filter(reversals))  # apart: only the few of the latter are joined
    )
    return int(plus) - int(minus)
