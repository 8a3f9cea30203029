"""An invoice to take away, as CSV and as PDF: the same bytes for programs and for people."""

import hashlib
import threading

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from rest_framework.request import Request

from batches import attainment
from batches.attainment import Attainment
from billing import statement
from billing.models import Invoice
from tenants import transfers
from tenants.errors import busy

CSV, PDF = "text/csv; charset=utf-8", "application/pdf"
CSV_FORM, PDF_FORM = 1, 1  # of their ETags: a larger one when they are written otherwise
_places = threading.BoundedSemaphore(8)  # PDFs being drawn or waited for


def csv(request: HttpRequest | Request, invoice: Invoice) -> HttpResponse:
    """Its lines and sums. They never change."""
    etag = f'"{invoice.public_id}-{CSV_FORM}"'
    if transfers.is_held(request, etag):
        return _attached(HttpResponseNotModified(), invoice, etag, "csv")
    return _attached(HttpResponse(statement.as_csv(invoice), content_type=CSV), invoice, etag, "csv")


def pdf(request: HttpRequest | Request, invoice: Invoice, name: str) -> HttpResponse:
    """For the tenant called `name`. Its ETag is of what can change: the status, and the names on it. Raises
    Refused 503."""
    month = kept(invoice)
    names = (name, settings.SELLER, invoice.stripe_url, bool(settings.STRIPE_API_KEY))
    stands = repr((PDF_FORM, invoice.public_id, invoice.status, invoice.settled_at, *names, month))
    etag = f'"{hashlib.sha256(stands.encode()).hexdigest()}"'
    if transfers.is_held(request, etag):
        return _attached(HttpResponseNotModified(), invoice, etag, "pdf")
    return _attached(HttpResponse(_drawn(invoice, said(month)), content_type=PDF), invoice, etag, "pdf")


def kept(invoice: Invoice) -> Attainment:
    """How the 24 hours were kept in the invoice's month."""
    return attainment.of_month(invoice.month, invoice.tenant_id).get(invoice.tenant_id, Attainment())


def said(kept: Attainment) -> str:
    """The same in words; "" where nothing was promised."""
    if kept.share is None:
        return ""
    share = f"{kept.met * 10_000 // kept.batches / 100:.2f}%"
    return f"24 hours: {kept.met} of {kept.batches} batches that ended in the month were there in time ({share})."


def _drawn(invoice: Invoice, kept: str) -> bytes:
    """One is drawn, few wait for it: the web's threads are not all to stand in this line. Raises Refused 503."""
    from billing import pdf as document  # noqa: PLC0415  # half a second, of the first that asks for one

    if not _places.acquire(blocking=False):
        raise busy()
    try:
        return document.render(invoice, kept)
    finally:
        _places.release()


def _attached(response: HttpResponse, invoice: Invoice, etag: str, ending: str) -> HttpResponse:
    response["ETag"] = etag
    response["Content-Disposition"] = transfers.disposition(f"{invoice.month:%Y-%m}_{invoice.public_id}.{ending}")
    return response
