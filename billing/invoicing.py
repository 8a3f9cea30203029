"""A tenant's month, closed: what its ledger came to, rounded once, and what became of it.

An invoice takes every entry of the ledger before the month's end that is on none yet. So one that was posted as the
month was closed, or that corrects an earlier month, is on the next; none is lost, and none is on two.
"""

from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Min, QuerySet, Sum, Value

from billing import ledger, money, tasks
from billing.fields import Total
from billing.ledger import Account, Kind
from billing.models import ChargeLine, Invoice, InvoicedEntry, LedgerEntry
from billing.models.ledger import debited
from tenants import admission, clock, holding, trail
from tenants.errors import Refused

SETTLING = (Kind.PAYMENT, Kind.WRITE_OFF, Kind.ROUNDING)  # what becomes of invoices is on none
MEASURES = ("requests", "input_tokens", "cached_tokens", "output_tokens", "amount")


class NotOver(ValueError):
    """The month has not ended: its invoice would lack what is still to come."""


class Line(NamedTuple):
    """What batches took of a model on a day (UTC): tokens, and pico-USD."""

    model: str
    day: date
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    amount: int


class Part(NamedTuple):
    """The invoice's entries of one kind: how many, and by how much they move what is owed, pico-USD."""

    entries: int
    owed: int


NONE = Part(0, 0)


def waiting(before: date) -> QuerySet[LedgerEntry]:
    """Entries of all tenants from before that day which are on no invoice, and belong on one."""
    rows = LedgerEntry.objects.filter(invoiced=None, created_at__lt=clock.midnight(before))
    return rows.exclude(kind__in=SETTLING).exclude(reverses__kind__in=SETTLING)


def close_all(tenant: int | None = None, actor: str = trail.SERVICE) -> list[Invoice]:
    """Close every month that has ended of every tenant that took something, or of this one; again, it finds nothing
    to do. Each is committed by itself: killed, and repeated, it goes on where it was."""
    ended = [(owner, month) for owner, first in _unclosed(clock.month(), tenant) for month in _months(first)]
    return [invoice for owner, month in ended if (invoice := close(owner, month, actor))]


def close_month(month: date, tenant: int | None = None, actor: str = trail.SERVICE) -> list[Invoice]:
    """Close that month of every tenant, or of this one. Raises NotOver."""
    if month >= clock.month():
        raise NotOver(f"{month:%Y-%m} has not ended.")
    owners = [owner for owner, _ in _unclosed(clock.following(month), tenant)]
    return [invoice for owner in owners if (invoice := close(owner, month, actor))]


def _unclosed(before: date, tenant: int | None) -> list[tuple[int, date]]:
    """Tenants with entries on no invoice, and the month of the first of them."""
    rows = waiting(before) if tenant is None else waiting(before).filter(tenant_id=tenant)
    first = rows.values_list("tenant_id").annotate(first=Min("created_at")).order_by("tenant_id")
    return [(owner, moment.date().replace(day=1)) for owner, moment in first]


def _months(month: date) -> Iterator[date]:
    while month < clock.month():
        yield month
        month = clock.following(month)


def close(tenant: int, month: date, actor: str = trail.SERVICE) -> Invoice | None:
    """The tenant's invoice of the month that begins on that day, if it is made now; None when it was made before, or
    there is nothing to put on it. Raises NotOver, and Refused while the service holds."""
    if month >= clock.month():
        raise NotOver(f"{month:%Y-%m} has not ended.")
    holding.check()
    with transaction.atomic():
        row = admission.lock(tenant)  # of two that close, one makes it and the other finds it
        found = waiting(clock.following(month)).filter(tenant_id=tenant)
        if Invoice.objects.filter(tenant_id=tenant, month=month).exists() or not found.exists():
            return None
        invoice = Invoice.objects.create(tenant_id=tenant, month=month, due=0, cents=0)
        _take(invoice, found)
        due = sum(part.owed for part in parts(invoice).values())
        if due < 0:  # corrections came to more than the charges: what is left over becomes credits
            carried = ledger.post(tenant, Kind.CARRIED, invoice.public_id, -due)
            assert carried is not None, "the invoice is new, and so is what it carries over"
            InvoicedEntry.objects.create(entry=carried, invoice=invoice, tenant_id=tenant)
        _total(invoice, max(due, 0))
        trail.record(row, actor, "invoice.created", invoice.public_id, **said(invoice))
        if invoice.send_at:
            tasks.ring_send_invoices()
    return invoice


def _take(invoice: Invoice, found: QuerySet[LedgerEntry]) -> None:
    """Put them on the invoice, in the database alone: a large month has hundreds of thousands."""
    chosen, parameters = found.values_list("pk", Value(invoice.pk), "tenant_id").query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO billing_invoicedentry (entry_id, invoice_id, tenant_id) {chosen}", parameters)


def _total(invoice: Invoice, due: int) -> None:
    """Store it, with the one rounding there is, and when it is to be sent."""
    invoice.created_at = now = clock.now()
    invoice.due, invoice.cents = due, money.cents(due)
    if invoice.cents == 0:
        invoice.status, invoice.settled_at = Invoice.Status.PAID, now
    elif settings.STRIPE_API_KEY:
        invoice.send_at = now
    invoice.save()
    up = invoice.cents * money.CENT - due
    if up:
        accounts = (Account.RECEIVABLE, Account.ROUNDING) if up > 0 else (Account.ROUNDING, Account.RECEIVABLE)
        ledger.post(invoice.tenant_id, Kind.ROUNDING, invoice.public_id, abs(up), accounts=accounts)


def lines(invoice: Invoice) -> list[Line]:
    """What the invoice's charges are made of, by day and model."""
    rows = ChargeLine.objects.filter(entry__invoiced__invoice=invoice).values("day", "model").order_by("day", "model")
    sums = rows.values_list("day", "model", *(map(Sum, MEASURES[:-1])), Total(MEASURES[-1]))
    return [Line(model, day, *map(int, measures)) for day, model, *measures in sums]


def entries(invoice: Invoice) -> QuerySet[LedgerEntry]:
    """What is on the invoice, in the order of posting; their `owed` comes to its `due`."""
    return LedgerEntry.objects.filter(invoiced__invoice=invoice).order_by("pk")


def found(rows: QuerySet[Invoice], invoice_id: str, param: str) -> Invoice:
    """The one of these with this id; a foreign one answers as one that does not exist. Raises Refused 404."""
    invoice = rows.filter(public_id="" if "\x00" in invoice_id else invoice_id).first()
    if invoice is None:
        raise Refused(404, "invoice_not_found", "There is no invoice with this id.", param=param)
    return invoice


def parts(invoice: Invoice) -> dict[str, Part]:
    """By kind."""
    return by_kind(entries(invoice))


def uninvoiced(tenant: int, month: date, latest: date | None) -> int:
    """What the entries up to this month that are on no invoice come to, pico-USD; below 0: credits, when it is closed.

    `latest` is the month of the tenant's last invoice: nothing of before it is on none.
    """
    rows = waiting(clock.following(month)).filter(tenant_id=tenant)
    if latest is not None:
        rows = rows.filter(created_at__gte=clock.midnight(latest))
    return sum(part.owed for part in by_kind(rows).values())


def by_kind(entries: QuerySet[LedgerEntry]) -> dict[str, Part]:
    """How many entries of each kind there are, and what they come to."""
    rows = entries.order_by("kind", "debit", "credit").values_list("kind", "debit", "credit")
    found: dict[str, Part] = {}
    for kind, debit, credit, count, amount in rows.annotate(Count("pk"), Total("amount")):
        before = found.get(kind, NONE)
        owed = debited(Account.RECEIVABLE, debit, credit, amount)
        found[kind] = Part(before.entries + count, before.owed + owed)
    return found


def pay(invoice: Invoice, note: str, actor: str = trail.OPERATOR) -> bool:
    """It was paid, also after it had been written off; `note` says how. False when it was paid before."""
    with transaction.atomic():
        tenant = admission.lock(invoice.tenant_id)
        if not _settle(invoice, Invoice.Status.PAID, from_any=True):
            return False
        trail.record(tenant, actor, "invoice.paid", invoice.public_id, **said(invoice), reason=note)
        written_off = LedgerEntry.objects.filter(kind=Kind.WRITE_OFF, reference=invoice.public_id).first()
        if written_off:
            ledger.correct(written_off, "It was paid after all.")
        ledger.post(invoice.tenant_id, Kind.PAYMENT, invoice.public_id, invoice.cents * money.CENT, note)
    return True


def write_off(invoice: Invoice, note: str, actor: str = trail.OPERATOR) -> bool:
    """It will not be paid: voided, or uncollectible; `note` says why. False when it is not open."""
    with transaction.atomic():
        tenant = admission.lock(invoice.tenant_id)
        if not _settle(invoice, Invoice.Status.VOID, from_any=False):
            return False
        trail.record(tenant, actor, "invoice.written_off", invoice.public_id, **said(invoice), reason=note)
        ledger.post(invoice.tenant_id, Kind.WRITE_OFF, invoice.public_id, invoice.cents * money.CENT, note)
    return True


def said(invoice: Invoice) -> dict[str, str]:
    """An invoice for people: of which month, and its total."""
    return {"month": f"{invoice.month:%Y-%m}", "usd": money.dollars(invoice.cents)}


def _settle(invoice: Invoice, status: Invoice.Status, from_any: bool) -> bool:
    """Compare and set."""
    others = Invoice.objects.filter(pk=invoice.pk)
    others = others.exclude(status=status) if from_any else others.filter(status=Invoice.Status.OPEN)
    return bool(others.update(status=status, settled_at=clock.now()))
