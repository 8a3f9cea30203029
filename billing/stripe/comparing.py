"""Invoices here against those at Stripe, both ways. Nothing is changed."""

from collections.abc import Iterator
from datetime import timedelta

from billing import money
from billing.models import Customer, Invoice
from billing.reconciling import Finding
from billing.stripe import client
from billing.stripe.client import Object
from tenants import clock

SENT_WITHIN = timedelta(days=1)
STATES = {
    Invoice.Status.OPEN: {"open"},
    Invoice.Status.PAID: {"paid"},
    Invoice.Status.VOID: {"void", "uncollectible"},
}


def findings() -> Iterator[Finding]:
    """Each customer's invoices. Raises client.Failed when Stripe can't be asked."""
    late = Invoice.objects.filter(sent_at=None, status=Invoice.Status.OPEN, created_at__lt=clock.now() - SENT_WITHIN)
    for invoice in late.order_by("pk"):
        yield Finding("not_sent_to_stripe", invoice.public_id, "sent", invoice.send_error or "not sent")
    for customer in Customer.objects.exclude(stripe_id=None).order_by("pk"):
        yield from _customer(customer, _at_stripe(customer.stripe_id or ""))


def _at_stripe(customer: str) -> list[Object]:
    return list(client.every(lambda v1: v1.invoices.list({"customer": customer, "limit": 100})))


def _customer(customer: Customer, there: list[Object]) -> Iterator[Finding]:
    copies: dict[str, list[Object]] = {}
    for found in there:
        if reference := (found.get("metadata") or {}).get("invoice"):
            copies.setdefault(reference, []).append(found)
    for invoice in Invoice.objects.filter(tenant_id=customer.tenant_id).exclude(sent_at=None).order_by("pk"):
        yield from _invoice(invoice, copies.pop(invoice.public_id, []))
    unsent = set(Invoice.objects.filter(tenant_id=customer.tenant_id, sent_at=None).values_list("public_id", flat=True))
    for reference in copies.keys() - unsent:
        yield Finding("unknown_invoice_at_stripe", reference, None, [copy["id"] for copy in copies[reference]])


def _invoice(invoice: Invoice, there: list[Object]) -> Iterator[Finding]:
    where = f"{invoice.public_id} ({invoice.month:%Y-%m})"
    if [found["id"] for found in there] != [invoice.stripe_id]:
        yield Finding("invoice_at_stripe", where, [invoice.stripe_id], [found["id"] for found in there])
    for found in there:
        if found["subtotal"] != invoice.cents:
            yield Finding("cents_at_stripe", f"{where} {found['id']}", invoice.cents, found["subtotal"])
        exact = found["metadata"].get("exact_usd")
        if exact != money.usd(int(invoice.due)):
            yield Finding("exact_sum_at_stripe", f"{where} {found['id']}", money.usd(int(invoice.due)), exact)
        if found["status"] not in STATES[Invoice.Status(invoice.status)]:
            yield Finding("status_at_stripe", f"{where} {found['id']}", invoice.status, found["status"])
