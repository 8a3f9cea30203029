"""What Stripe's webhooks tell, acted on once each.

They come more than once and in no order, so none is believed beyond that something has happened: what is so now is
asked, and that is acted on. The event's row and its effect are one transaction.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from django.db import transaction

from billing.models import StripeEvent
from billing.stripe import checkout, client, customers, settling
from billing.stripe.client import Failed, Object

Effect = Callable[[], None]
PAYMENT_METHODS = ("payment_method.attached", "payment_method.detached", "payment_method.automatically_updated")

log = logging.getLogger(__name__)


def act(event: Object) -> bool:
    """Do what follows from an event; False when nothing does, or it was done before. Raises client.Failed: send it
    again."""
    prepare = HANDLERS.get(str(event.get("type")))
    event_id, subject = event.get("id"), _subject(event)
    if prepare is None or not client.is_id(event_id) or not subject:
        return False
    if client.is_live() not in (None, event.get("livemode")):
        log.warning("Stripe event %s is of the other mode, live or test, than the API key: ignored", event_id)
        return False
    if StripeEvent.objects.filter(event_id=event_id).exists():
        return False
    try:
        effect = prepare(event, subject)
    except Failed as failed:
        if not failed.missing:
            raise
        return False  # what it was about is gone
    return effect is not None and _once(event, effect)


def _subject(event: Object) -> Object:
    """What it is about, as it was then; nothing where that is not told as Stripe does."""
    data = event.get("data")
    subject = data.get("object") if isinstance(data, dict) else None
    created = event.get("created")
    dated = isinstance(created, int) and 0 < created < 2**33
    return subject if dated and isinstance(subject, dict) and client.is_id(subject.get("id")) else {}


def _once(event: Object, effect: Effect) -> bool:
    created = datetime.fromtimestamp(event["created"], UTC)
    with transaction.atomic():
        _, new = StripeEvent.objects.get_or_create(
            event_id=event["id"], defaults={"type": event["type"][:100], "created_at": created}
        )
        if new:
            effect()
    return new


def _invoice(event: Object, subject: Object) -> Effect | None:
    """Something became of an invoice: of ours, or of another one of a customer of ours, which may be past due."""
    found = client.call(lambda v1: v1.invoices.retrieve(subject["id"]))
    customer = customers.known(found.get("customer"))
    if customer is None:
        return None
    invoice, stripe_id = settling.ours(found), found["customer"]
    state = customers.state(stripe_id)

    def effect() -> None:
        if invoice:
            settling.settle(invoice, found)
        customers.store(stripe_id, state)

    return effect


def _session(event: Object, subject: Object) -> Effect | None:
    """A page was completed: credits were bought, or a payment method was left."""
    found = client.call(lambda v1: v1.checkout.sessions.retrieve(subject["id"]))
    if customers.known(found.get("customer")) is None:
        return None
    if found["mode"] == "setup":
        checkout.adopt_payment_method(found)
        settling.charge_past_due(found["customer"])
    state = customers.state(found["customer"])

    def effect() -> None:
        checkout.credit(found)
        customers.store(found["customer"], state)

    return effect


def _customer(event: Object, subject: Object) -> Effect | None:
    """A customer, or one of its payment methods, has changed: read it again."""
    previous = event["data"].get("previous_attributes")
    former = previous.get("customer") if isinstance(previous, dict) else None
    named = subject["id"] if subject.get("object") == "customer" else subject.get("customer") or former
    if not client.is_id(named) or customers.known(named) is None:
        return None
    state = customers.state(named)
    return lambda: customers.store(named, state)


def _deleted(event: Object, subject: Object) -> Effect | None:
    """A customer is gone, which is final."""
    return (lambda: customers.forget(subject["id"])) if customers.known(subject.get("id")) else None


def _for_staff(event: Object, subject: Object) -> Effect | None:
    """Money went back, or may: what it means for the ledger is for people to say."""
    charge = subject
    if client.is_id(subject.get("charge")):  # of a dispute
        charge = client.call(lambda v1: v1.charges.retrieve(subject["charge"]))
    if customers.known(charge.get("customer")) is None:
        return None
    message = "Stripe: %s, %s, %s cents: see to it there, and correct the ledger"
    return lambda: log.error(message, event["type"], subject.get("id"), subject.get("amount"))


HANDLERS: dict[str, Callable[[Object, Object], Effect | None]] = {
    "invoice.paid": _invoice,
    "invoice.payment_failed": _invoice,
    "invoice.payment_action_required": _invoice,
    "invoice.overdue": _invoice,
    "invoice.voided": _invoice,
    "invoice.marked_uncollectible": _invoice,
    "checkout.session.completed": _session,
    "checkout.session.async_payment_succeeded": _session,
    "customer.updated": _customer,
    "customer.deleted": _deleted,
    **dict.fromkeys(PAYMENT_METHODS, _customer),
    "charge.refunded": _for_staff,
    "charge.dispute.created": _for_staff,
    "charge.dispute.closed": _for_staff,
}
