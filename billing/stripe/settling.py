"""What became of an invoice at Stripe, brought home: paid, written off, or still open."""

import logging
from datetime import timedelta

from billing import invoicing
from billing.models import Customer, Invoice
from billing.stripe import checkout, client, customers
from billing.stripe.client import Object
from tenants import clock

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
        invoicing.pay(invoice, f"Stripe {found['id']}")
    elif status in GIVEN_UP:
        invoicing.write_off(invoice, GIVEN_UP[status])


def refresh(seconds: float) -> None:
    """Ask Stripe about all that is open, in case its webhooks were lost; in no order, for about so long."""
    until = clock.now() + timedelta(seconds=seconds)
    _refresh_purchases()
    sent = Invoice.objects.exclude(sent_at=None).exclude(stripe_id=None)
    asked = set()
    for invoice in sent.filter(status=Invoice.Status.OPEN).order_by("?"):
        if clock.now() > until:
            return
        settle(invoice, _found(invoice.stripe_id or ""))
        asked.add(invoice.tenant_id)
    rows = Customer.objects.exclude(stripe_id=None)
    for customer in (rows.filter(tenant__in=asked) | rows.exclude(past_due_since=None)).order_by("?"):
        if clock.now() > until:
            return
        customers.store(customer.stripe_id or "", customers.state(customer.stripe_id or ""))


def _found(stripe_id: str) -> Object:
    return client.call(lambda v1: v1.invoices.retrieve(stripe_id))


def _refresh_purchases() -> None:
    since = int((clock.now() - PURCHASES_WITHIN).timestamp())
    wanted = {"created": {"gte": since}, "status": "complete", "limit": 100}
    for session in client.every(lambda v1: v1.checkout.sessions.list(wanted)):
        checkout.credit(session)
