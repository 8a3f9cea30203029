"""What must be true of the ledger and of the invoices, looked at row by row. Nothing is changed."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import NamedTuple

from django.db.models import F, Q, Sum

from billing import invoicing, money
from billing.ledger import ACCOUNTS, Account, Kind
from billing.models import ChargeLine, Invoice, InvoicedEntry, LedgerEntry
from tenants import clock
from tenants.paging import by_pk

CLOSED_WITHIN = timedelta(days=2)  # after a month's end
CHUNK = 2_000
OPEN, PAID, VOID = Invoice.Status.OPEN, Invoice.Status.PAID, Invoice.Status.VOID


class Finding(NamedTuple):
    """Something that does not add up: which check, of what, and both figures (money in pico-USD)."""

    check: str
    where: str
    expected: object
    found: object


def ledger_findings() -> Iterator[Finding]:
    """Entries by themselves: their accounts, what charges are made of, corrections, credits."""
    for entry in by_pk(LedgerEntry.objects.select_related("reverses"), CHUNK):
        yield from _accounts(entry)
    yield from _charge_lines()
    uses = LedgerEntry.objects.filter(kind=Kind.CREDIT_USE)
    charged = LedgerEntry.objects.filter(kind=Kind.BATCH_CHARGE)
    for use in uses.exclude(reference__in=charged.values("reference")):
        yield Finding("credit_use_without_charge", use.reference, None, use.amount)
    yield from _overdrawn()


def _accounts(entry: LedgerEntry) -> Iterator[Finding]:
    found = (entry.debit, entry.credit)
    if entry.kind == Kind.CORRECTION:
        was = entry.reverses
        if was is None:
            yield Finding("correction_of_nothing", entry.reference, "an entry", None)
        elif (was.credit, was.debit, was.amount, was.tenant_id) != (*found, entry.amount, entry.tenant_id):
            yield Finding("correction_differs", entry.reference, str(was), str(entry))
    elif entry.kind == Kind.ROUNDING:
        if set(found) != {Account.RECEIVABLE, Account.ROUNDING}:
            yield Finding("accounts", f"{entry.kind} {entry.reference}", "receivable and rounding", " to ".join(found))
    elif found != ACCOUNTS[Kind(entry.kind)]:
        expected = " to ".join(ACCOUNTS[Kind(entry.kind)])
        yield Finding("accounts", f"{entry.kind} {entry.reference}", expected, " to ".join(found))


def _charge_lines() -> Iterator[Finding]:
    charges = LedgerEntry.objects.filter(kind=Kind.BATCH_CHARGE).annotate(sum=Sum("lines__amount"))
    for entry in charges.exclude(Q(sum=F("amount")) | Q(sum=None, amount=0)).order_by("pk"):
        yield Finding("charge_lines", entry.reference, entry.amount, int(entry.sum or 0))
    for line in ChargeLine.objects.exclude(entry__kind=Kind.BATCH_CHARGE, tenant=F("entry__tenant")):
        yield Finding("charge_line_elsewhere", str(line), line.entry.tenant_id, line.tenant_id)


def _overdrawn() -> Iterator[Finding]:
    moved = Q(debit=Account.CREDITS) | Q(credit=Account.CREDITS)
    held: dict[int, int] = {}
    for entry in by_pk(LedgerEntry.objects.filter(moved), CHUNK):
        sign = 1 if entry.credit == Account.CREDITS else -1
        held[entry.tenant_id] = held.get(entry.tenant_id, 0) + sign * entry.amount
        if sign < 0 and held[entry.tenant_id] < 0:
            yield Finding("credits_overdrawn", f"{entry.kind} {entry.reference}", 0, held[entry.tenant_id])


def invoice_findings() -> Iterator[Finding]:
    """Invoices against the entries on them, their rounding, what became of them; months that nobody closed."""
    for invoice in by_pk(Invoice.objects.all(), CHUNK):
        yield from _invoice(invoice)
    for row in InvoicedEntry.objects.exclude(invoice__tenant=F("entry__tenant")).select_related("entry", "invoice"):
        yield Finding("entry_of_another_tenant", str(row.invoice), row.invoice.tenant_id, row.entry.tenant_id)
    settled = LedgerEntry.objects.filter(kind__in=invoicing.SETTLING)
    for stray in settled.exclude(reference__in=Invoice.objects.values("public_id")):
        yield Finding(f"{stray.kind}_without_invoice", stray.reference, None, stray.amount)
    yield from _not_invoiced()


def _not_invoiced() -> Iterator[Finding]:
    """Entries of months that ended a while ago. Where the last one was closed, what came late waits for the next."""
    month = (clock.now() - CLOSED_WITHIN).date().replace(day=1)
    last = (month - timedelta(days=1)).replace(day=1)
    closed = Invoice.objects.filter(month__gte=last).values("tenant_id")
    for entry in invoicing.waiting(month).exclude(tenant_id__in=closed).order_by("pk"):
        yield Finding("not_invoiced", f"{entry.kind} {entry.reference}", "on an invoice", str(entry.created_at))


def _invoice(invoice: Invoice) -> Iterator[Finding]:
    where = f"{invoice.public_id} ({invoice.month:%Y-%m})"
    due = sum(part.owed for part in invoicing.parts(invoice).values())
    if invoice.due != due:
        yield Finding("invoice_due", where, due, invoice.due)
    if invoice.cents != money.cents(due):
        yield Finding("invoice_cents", where, money.cents(due), invoice.cents)
    end = clock.midnight(clock.following(invoice.month))
    for entry in invoicing.entries(invoice).filter(created_at__gte=end).exclude(kind=Kind.CARRIED):
        yield Finding("entry_after_month", f"{entry} on {where}", str(end), str(entry.created_at))
    rows = LedgerEntry.objects.filter(kind__in=invoicing.SETTLING, reference=invoice.public_id, reversed_by=None)
    posted = {entry.kind: entry for entry in rows}
    rounding = posted.pop(Kind.ROUNDING, None)
    if (rounding.owed if rounding else 0) != invoice.cents * money.CENT - due:
        yield Finding("rounding", where, invoice.cents * money.CENT - due, rounding.owed if rounding else 0)
    yield from _settled(invoice, where, posted.values())


def _settled(invoice: Invoice, where: str, posted: Iterable[LedgerEntry]) -> Iterator[Finding]:
    """Whether the payment or write-off of the ledger is that of the invoice's status."""
    kinds = {OPEN: None, PAID: Kind.PAYMENT, VOID: Kind.WRITE_OFF}
    kind = kinds[Invoice.Status(invoice.status)] if invoice.cents else None
    expected = {kind: invoice.cents * money.CENT} if kind else {}
    found = {entry.kind: entry.amount for entry in posted}
    if found != expected:
        yield Finding("settlement", f"{where}, {invoice.status}", expected, found)
