"""The tenant's invoices: /v1/invoices. What they are made of stands in billing/invoicing.py."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from batches import documents
from batches.api import fields, paging
from batches.api.serializers import unix
from billing import entries as posted
from billing import invoicing, money, statement
from billing.models import Invoice, LedgerEntry
from tenants.authentication import tenant_of

SHOWN_ENTRIES = 100  # in the invoice itself; all of them are a list of their own


@api_view(["GET", "HEAD"])
def invoices(request: Request) -> Response:
    """The tenant's invoices, the newest month first."""
    fields.query(request, "limit", "after")
    limit = paging.limit(request)
    rows = _of_tenant(request).order_by("-month")
    if after := request.query_params.get("after"):
        rows = rows.filter(month__lt=_invoice(request, after, "after").month)
    return paging.answer(rows, limit, _title)


@api_view(["GET", "HEAD"])
def invoice(request: Request, invoice_id: str) -> Response:
    """One invoice; with ?reference= its entries are those for that batch."""
    fields.query(request, "reference")
    found = _invoice(request, invoice_id)
    reference = request.query_params.get("reference")
    entries = statement.others(found) if reference is None else statement.about(found, reference)
    return Response(_whole(found, entries))


@api_view(["GET", "HEAD"])
def entries(request: Request, invoice_id: str) -> Response:
    """Every entry of the ledger that is on the invoice, newest first."""
    fields.query(request, "limit", "after")
    found, limit = _invoice(request, invoice_id), paging.limit(request)
    rows = invoicing.entries(found).order_by("-pk")
    if after := request.query_params.get("after"):
        rows = rows.filter(pk__lt=posted.found(rows, after).pk)
    return paging.answer(rows, limit, _entry)


@api_view(["GET", "HEAD"])
def csv(request: Request, invoice_id: str) -> HttpResponse:
    """Its lines and sums as CSV."""
    fields.query(request)
    return documents.csv(request, _invoice(request, invoice_id))


@api_view(["GET", "HEAD"])
def pdf(request: Request, invoice_id: str) -> HttpResponse:
    """The same as a document."""
    fields.query(request)
    return documents.pdf(request, _invoice(request, invoice_id), tenant_of(request).name)


def _of_tenant(request: Request) -> QuerySet[Invoice]:
    return Invoice.objects.filter(tenant=tenant_of(request))


def _invoice(request: Request, invoice_id: str, param: str = "invoice_id") -> Invoice:
    return invoicing.found(_of_tenant(request), invoice_id, param)


def _title(invoice: Invoice) -> dict[str, Any]:
    """What a list shows of it."""
    return {
        "id": invoice.public_id,
        "object": "invoice",
        "month": f"{invoice.month:%Y-%m}",
        "status": invoice.status,
        "currency": "usd",
        "due_usd": money.usd(invoice.due),
        "total_usd": money.dollars(invoice.cents),
        "created_at": unix(invoice.created_at),
        "settled_at": unix(invoice.settled_at),
        "payment_url": invoice.stripe_url or None,
    }


def _whole(invoice: Invoice, entries: QuerySet[LedgerEntry]) -> dict[str, Any]:
    parts = invoicing.parts(invoice)
    kept = documents.kept(invoice)
    sums = statement.sums(invoice, parts)
    return _title(invoice) | {
        "sums": {f"{name}_usd": money.usd(amount) for name, amount in sums.items()},
        "sla": {"batches": kept.batches, "met": kept.met, "attainment": kept.share},
        "lines": [_line(line) for line in invoicing.lines(invoice)],
        "entry_counts": {kind: part.entries for kind, part in sorted(parts.items())},
        "entries": [_entry(entry) for entry in entries[:SHOWN_ENTRIES]],
    }


def _line(line: invoicing.Line) -> dict[str, Any]:
    shown = line._asdict()
    amount = shown.pop("amount")
    return {**shown, "day": line.day.isoformat(), "amount_usd": money.usd(amount)}


def _entry(entry: LedgerEntry) -> dict[str, Any]:
    return {
        "id": posted.name(entry),
        "object": "invoice.entry",
        "kind": entry.kind,
        "reference": entry.reference,
        "amount_usd": money.usd(entry.owed),
        "credits_usd": money.usd(entry.credited),
        "note": entry.note or None,
        "created_at": unix(entry.created_at),
    }
