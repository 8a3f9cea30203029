"""What became of an invoice at Stripe, brought home: paid, written off, or still open."""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

from billing import invoicing
from billing.models import Customer, Invoice
from billing.stripe import checkout, client, customers
from billing.stripe.client import Failed, Object
from tenants import clock, trail

GIVEN_UP = {"void": "It was voided at Stripe.", "uncollectible": "It was marked uncollectible at Stripe."}
PURCHASES_WITHIN = timedelta(days=8)  # Stripe sends a webhook again for three

log = logging.getLogger(__name__)


def ours(found: Object) -> Invoice | None:
    """The invoice that an invoice at Stripe is a copy of: it names it, and is of the same customer."""
    reference = (found.get("metadata") or {}).get("invoice")
    invoice = Invoice.objects.filter(public_id=reference).first() if client.is_id(reference) else None
    customer = Customer.objects.filter(tenant=invoice.tenant_id).first() if invoice else None
    if invoice is None or customer is None or customer.stripe_id != found.get("customer"):
        return None
    if invoice.stripe_id not in (None, found["id"]):
        log.warning("%s at Stripe is a second copy of invoice %s: look at it there", found["id"], invoice.public_id)
        return None
    return invoice


def settle(invoice: Invoice, found: Object) -> None:
    """Act on the state that it has at Stripe. Any number of times, in any order: a state there is final, or followed by
    payment alone."""
    status = found["status"]
    if status == "paid":
        invoicing.pay(invoice, f"Stripe {found['id']}", trail.STRIPE)
    elif status in GIVEN_UP:
        invoicing.write_off(invoice, GIVEN_UP[status], trail.STRIPE)


def charge_past_due(customer: str) -> None:
    """Try again what could not be charged, now that there is another payment method: Stripe's own next try may be days
    away. Raises client.Failed when Stripe does not answer."""
    for found in client.every(lambda v1: v1.invoices.list({"customer": customer, "status": "open", "limit": 100})):
        if ours(found) and customers.is_past_due(found, clock.now()):
            _charge(found["id"])


def _charge(stripe_id: str) -> None:
    try:
        client.call(lambda v1: v1.invoices.pay(stripe_id))
    except client.Failed as failed:
        if failed.status is None or failed.status >= client.THEIR_FAULT:
            raise
        log.info("Stripe does not charge %s: %s", stripe_id, failed)  # declined again, or paid meanwhile


def refresh(seconds: float) -> None:
    """Ask Stripe about all that is open, in case its webhooks were lost; in no order, for about so long."""
    until = time.monotonic() + seconds
    try:
        _refresh_purchases()
        for step in _steps():
            if time.monotonic() > until:
                return
            step()
    except Failed as failed:
        log.error("Stripe could not be asked what became of invoices: %s", failed)


def _steps() -> Iterator[Callable[[], None]]:
    sent = Invoice.objects.filter(status=Invoice.Status.OPEN).exclude(sent_at=None).exclude(stripe_id=None)
    rows = Customer.objects.exclude(stripe_id=None)
    owing = rows.filter(tenant__in=sent.values("tenant")) | rows.exclude(past_due_since=None)
    for invoice in sent.order_by("?"):
        yield partial(_refresh_invoice, invoice)
    for stripe_id in owing.distinct().values_list("stripe_id", flat=True):
        yield partial(_refresh_customer, stripe_id or "")


def _refresh_invoice(invoice: Invoice) -> None:
    try:
        found = client.call(lambda v1: v1.invoices.retrieve(invoice.stripe_id))
    except Failed as failed:
        if not failed.missing:
            raise
        log.error("Invoice %s is not at Stripe any more as %s", invoice.public_id, invoice.stripe_id)
    else:
        settle(invoice, found)


def _refresh_customer(stripe_id: str) -> None:
    customers.store(stripe_id, customers.state(stripe_id))


def _refresh_purchases() -> None:
    since = int((clock.now() - PURCHASES_WITHIN).timestamp())
    wanted = {"created": {"gte": since}, "status": "complete", "limit": 100}
    for session in client.every(lambda v1: v1.checkout.sessions.list(wanted)):
        checkout.credit(session)
