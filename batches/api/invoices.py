"""The tenant's invoices: /v1/invoices. What they are made of stands in billing/invoicing.py."""

import hashlib
import threading
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponse, HttpResponseNotModified
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from batches import attainment
from batches.api import downloads, fields, finding, paging
from batches.api.serializers import unix
from batches.attainment import Attainment
from billing import invoicing, money, statement
from billing.models import Invoice, LedgerEntry
from tenants.authentication import tenant_of
from tenants.errors import Refused, busy

CSV, PDF = "text/csv; charset=utf-8", "application/pdf"
SHOWN_ENTRIES = 100  # in the invoice itself; all of them are a list of their own
CSV_FORM, PDF_FORM = 1, 1  # of their ETags: a larger one when they are written otherwise
_places = threading.BoundedSemaphore(8)  # PDFs being drawn or waited for


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
    entries = statement.others(found) if reference is None else statement.about(found, _asked(reference))
    return Response(_whole(found, entries))


@api_view(["GET", "HEAD"])
def entries(request: Request, invoice_id: str) -> Response:
    """Every entry of the ledger that is on the invoice, newest first."""
    fields.query(request, "limit", "after")
    found, limit = _invoice(request, invoice_id), paging.limit(request)
    rows = invoicing.entries(found).order_by("-pk")
    if after := request.query_params.get("after"):
        rows = rows.filter(pk__lt=finding.entry(rows, after).pk)
    return paging.answer(rows, limit, _entry)


@api_view(["GET", "HEAD"])
def csv(request: Request, invoice_id: str) -> HttpResponse:
    """Its lines and sums as CSV. They never change."""
    fields.query(request)
    found = _invoice(request, invoice_id)
    etag = f'"{found.public_id}-{CSV_FORM}"'
    if downloads.is_held(request, etag):
        return _attached(HttpResponseNotModified(), found, etag, "csv")
    return _attached(HttpResponse(statement.as_csv(found), content_type=CSV), found, etag, "csv")


@api_view(["GET", "HEAD"])
def pdf(request: Request, invoice_id: str) -> HttpResponse:
    """The same as a document. Its ETag is of what can change: the status, and the names on it."""
    fields.query(request)
    found = _invoice(request, invoice_id)
    kept = _kept(found)
    names = (tenant_of(request).name, settings.SELLER, found.stripe_url, bool(settings.STRIPE_API_KEY))
    stands = repr((PDF_FORM, found.public_id, found.status, found.settled_at, *names, kept))
    etag = f'"{hashlib.sha256(stands.encode()).hexdigest()}"'
    if downloads.is_held(request, etag):
        return _attached(HttpResponseNotModified(), found, etag, "pdf")
    return _attached(HttpResponse(_drawn(found, _said(kept)), content_type=PDF), found, etag, "pdf")


def _drawn(invoice: Invoice, kept: str) -> bytes:
    """One is drawn, few wait for it: the web's threads are not all to stand in this line. Raises Refused 503."""
    from billing import pdf as document  # noqa: PLC0415  # half a second, of the first that asks for one

    if not _places.acquire(blocking=False):
        raise busy()
    try:
        return document.render(invoice, kept)
    finally:
        _places.release()


def _kept(invoice: Invoice) -> Attainment:
    return attainment.of_month(invoice.month, invoice.tenant_id).get(invoice.tenant_id, Attainment())


def _said(kept: Attainment) -> str:
    """How 24 hours were kept, in words."""
    if kept.share is None:
        return ""
    share = f"{kept.met * 10_000 // kept.batches / 100:.2f}%"
    return f"24 hours: {kept.met} of {kept.batches} batches that ended in the month were there in time ({share})."


def _attached(response: HttpResponse, invoice: Invoice, etag: str, ending: str) -> HttpResponse:
    response["ETag"] = etag
    response["Content-Disposition"] = downloads.disposition(f"{invoice.month:%Y-%m}_{invoice.public_id}.{ending}")
    return response


def _of_tenant(request: Request) -> QuerySet[Invoice]:
    return Invoice.objects.filter(tenant=tenant_of(request))


def _invoice(request: Request, invoice_id: str, param: str = "invoice_id") -> Invoice:
    """The tenant's invoice. Raises Refused 404."""
    try:
        return _of_tenant(request).get(public_id=_asked(invoice_id))
    except Invoice.DoesNotExist:
        raise Refused(404, "invoice_not_found", "There is no invoice with this id.", param=param) from None


def _asked(text: str) -> str:
    """What is looked up: PostgreSQL takes no NUL, and no row has one."""
    return "" if "\x00" in text else text


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
    kept = _kept(invoice)
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
        "id": f"{entry.kind}:{entry.reference}",
        "object": "invoice.entry",
        "kind": entry.kind,
        "reference": entry.reference,
        "amount_usd": money.usd(entry.owed),
        "credits_usd": money.usd(entry.credited),
        "note": entry.note or None,
        "created_at": unix(entry.created_at),
    }
