"""A tenant's invoices and its ledger, entry by entry, for people to read."""

from typing import Any, NamedTuple

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from batches import documents
from batches.web.billing import LOOKS, invoices_of
from batches.web.figures import dollars
from billing import entries, invoicing, money, statement, wording
from billing.ledger import Kind
from billing.models import Invoice, LedgerEntry
from tenants.web.access import Seat, seat

PAGE = 50  # entries
MOST_LINES = 150  # by day and model; the CSV has all
OF_BATCHES = (Kind.BATCH_CHARGE, Kind.CREDIT_USE, Kind.SLA_CREDIT)
OF_INVOICES = (Kind.CARRIED, Kind.PAYMENT, Kind.WRITE_OFF, Kind.ROUNDING)


class Entry(NamedTuple):
    """An entry of the ledger; batch or invoice is the id of what it is for, where it is one."""

    entry: LedgerEntry
    name: str
    kind: str
    of: str  # what it is for, as it stands
    batch: str
    invoice: str
    owed: str
    credited: str


@require_safe
@seat()
def invoice(request: HttpRequest, seat: Seat, invoice_id: str) -> HttpResponse:
    """How its sum comes about: lines by day and model, sums, entries."""
    found = invoicing.found(invoices_of(seat), invoice_id, "invoice_id")
    rows, after = invoicing.entries(found).order_by("-pk"), request.GET.get("after", "")
    if after:
        rows = rows.filter(pk__lt=entries.found(rows, after).pk)
    sums = statement.sums(found, invoicing.parts(found))
    lines = invoicing.lines(found)
    context = {
        "invoice": found,
        "month": f"{found.month:%B %Y}",
        "status": wording.status(found),
        "look": LOOKS[Invoice.Status(found.status)],
        "total": dollars(found.cents * money.CENT),
        "due": dollars(found.due),
        "kept": documents.said(documents.kept(found)),
        "sums": [(wording.SUMS[name], dollars(amount)) for name, amount in sums.items() if amount or name == "charges"],
        "lines": [_line(line) for line in lines[:MOST_LINES]],
        "more": max(len(lines) - MOST_LINES, 0),
        **_page(rows, after),
    }
    return render(request, "billing/invoice.html", context)


def _line(line: invoicing.Line) -> dict[str, Any]:
    counts = {name: f"{getattr(line, name):,}" for name in invoicing.MEASURES[:-1]}
    return {"day": line.day, "model": line.model, **counts, "amount": dollars(line.amount)}


@require_safe
@seat()
def invoice_csv(request: HttpRequest, seat: Seat, invoice_id: str) -> HttpResponse:
    """The same bytes as the API's."""
    return documents.csv(request, invoicing.found(invoices_of(seat), invoice_id, "invoice_id"))


@require_safe
@seat()
def invoice_pdf(request: HttpRequest, seat: Seat, invoice_id: str) -> HttpResponse:
    """The same bytes as the API's."""
    return documents.pdf(request, invoicing.found(invoices_of(seat), invoice_id, "invoice_id"), seat.tenant.name)


@require_safe
@seat()
def ledger(request: HttpRequest, seat: Seat) -> HttpResponse:
    """All entries, newest first; those of one kind, or for one thing."""
    kind, reference, after = (request.GET.get(name, "") for name in ("kind", "reference", "after"))
    rows = entries.of_tenant(seat.tenant.pk, kind or None, reference or None, after)
    filters = {name: value for name, value in (("kind", kind), ("reference", reference)) if value}
    context = {
        "kinds": wording.KINDS.items(),
        "kind": kind,
        "reference": reference,
        "query": urlencode(filters),
        **_page(rows, after),
    }
    return render(request, "billing/ledger.html", context)


def _page(rows: QuerySet[LedgerEntry], after: str) -> dict[str, Any]:
    found = list(rows[: PAGE + 1])
    shown = [_entry(entry) for entry in found[:PAGE]]
    return {"entries": shown, "after": after, "next": shown[-1].name if len(found) > PAGE else ""}


def _entry(entry: LedgerEntry) -> Entry:
    kind, of = entry.kind, entry.reference
    if kind == Kind.CORRECTION:
        kind, _, of = of.partition(":")  # of what it reverses
    named = wording.KINDS[entry.kind] + (f" of: {wording.KINDS.get(kind, kind)}" if kind != entry.kind else "")
    batch, invoice = (of if kind in kinds else "" for kinds in (OF_BATCHES, OF_INVOICES))
    return Entry(entry, entries.name(entry), named, of, batch, invoice, dollars(entry.owed), dollars(entry.credited))
