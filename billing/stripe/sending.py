"""Invoices on their way to Stripe: an outbox in the rows themselves.

    send_at has come -> claimed: send_at is the lease's end -> sent: send_at is null
           ^                       |
           '-- later, on failure --'

Attempts are counted at the claim. Every object at Stripe bears our id, and is asked for with a permanent idempotency
key. Stripe forgets keys after 24 hours, so a second attempt looks before it makes anything: an answer that was lost, or
a sender that died, at whatever step, leads to one invoice, once finalized.
"""

import logging
import secrets
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet

from billing import invoicing, money
from billing.models import Invoice
from billing.stripe import client, customers, items, settling
from billing.stripe.client import Failed, Object
from billing.stripe.items import Item, Mismatch
from tenants import clock, holding, trail

LEASE = timedelta(minutes=10)
SPENT = 480.0  # seconds of a lease, after which no further call is made
DAYS_TO_PAY = 14  # of an invoice that is sent by mail
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=6)
NOT_SENT = "It is not open, Stripe has it already, or it is on its way there."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claim:
    """An invoice in hand."""

    invoice: Invoice
    token: str
    end: float  # on the monotonic clock


def due() -> QuerySet[Invoice]:
    """Invoices that are to be sent now: none while the service holds."""
    return Invoice.objects.filter(holding.working(), send_at__lte=clock.now(), status=Invoice.Status.OPEN)


def is_due() -> bool:
    """Whether there is one, and a Stripe to send it to."""
    return client.configured() and due().exists()


def send_due(seconds: float) -> None:
    """Send what is due, one after the other, for about so long."""
    until = time.monotonic() + seconds
    while client.configured() and time.monotonic() < until and (claimed := claim()):
        _attempt(claimed)


def why_not(invoice: Invoice) -> str | None:
    """Why it can't be sent; None: it can, if it is not on its way at this moment."""
    if not client.configured():
        return "Stripe is not set up: STRIPE_API_KEY is empty."
    is_open = invoice.status == Invoice.Status.OPEN and invoice.cents
    return NOT_SENT if invoice.sent_at or not is_open else None


def again(invoice: Invoice, actor: str = trail.OPERATOR) -> bool:
    """Send it as soon as may be; False when it is sent, settled, or being sent at this moment."""
    free = Q(send_token="") | Q(send_at__lte=clock.now())
    rows = Invoice.objects.filter(free, pk=invoice.pk, sent_at=None, status=Invoice.Status.OPEN, cents__gt=0)
    with transaction.atomic():
        if not rows.update(send_at=clock.now(), send_token=""):
            return False
        trail.record(invoice.tenant, actor, "invoice.sent", invoice.public_id, **invoicing.said(invoice))
    return True


def claim() -> Claim | None:
    """The invoice that has waited longest, with a lease of its own."""
    for pk in due().order_by("send_at", "pk").values_list("pk", flat=True)[:10]:
        token, end, now = secrets.token_hex(16), time.monotonic() + SPENT, clock.now()
        rows = Invoice.objects.filter(holding.working(), pk=pk, send_at__lte=now, status=Invoice.Status.OPEN)
        if rows.update(send_token=token, send_at=now + LEASE, send_attempts=F("send_attempts") + 1):
            return Claim(Invoice.objects.get(pk=pk), token, end)
    return None


def _attempt(claimed: Claim) -> None:
    """Send it, or note why not and when to try again. A fault of ours keeps no other invoice from being sent."""
    invoice = claimed.invoice
    try:
        found = _sent(claimed)
    except (Failed, Mismatch) as error:
        log.error("Invoice %s could not be sent to Stripe: %s", invoice.public_id, error)
        _postpone(claimed, str(error))
    except Exception as error:
        log.exception("Invoice %s could not be sent to Stripe", invoice.public_id)
        _postpone(claimed, type(error).__name__)
    else:
        _held(claimed).update(
            sent_at=clock.now(), stripe_url=found.get("hosted_invoice_url") or "",
            send_at=None, send_token="", send_error="",
        )  # fmt: skip
        settling.settle(invoice, found)


def _held(claimed: Claim) -> QuerySet[Invoice]:
    """The row while the lease is ours."""
    return Invoice.objects.filter(pk=claimed.invoice.pk, send_token=claimed.token)


def _postpone(claimed: Claim, error: str) -> None:
    wait = min(FIRST_WAIT * 2 ** min(claimed.invoice.send_attempts - 1, 16), LONGEST_WAIT)
    _held(claimed).update(send_at=clock.now() + wait, send_token="", send_error=error[:300])


def _sent(claimed: Claim) -> Object:
    """The invoice as Stripe has it, all of it there and finalized. Raises Failed, Mismatch."""
    invoice = claimed.invoice
    wanted = items.of(invoice)
    customer = customers.found_or_made(invoice.tenant_id)
    found = _draft(invoice, customer)
    if found["status"] != "draft":
        return found
    there = _items(found["id"])
    for item in wanted:
        if item.key not in there:
            if time.monotonic() > claimed.end:
                raise Mismatch("it took too long")
            _add(invoice, found, item)
    _check(invoice, found["id"], wanted)
    return _finalized(found["id"], customer)


def _draft(invoice: Invoice, customer: str) -> Object:
    """The invoice at Stripe: known, found, or made."""
    if invoice.stripe_id:
        return client.call(lambda v1: v1.invoices.retrieve(invoice.stripe_id))
    found = _made_before(invoice, customer) or client.create(
        lambda v1, options: v1.invoices.create(_described(invoice, customer), options),
        invoice.public_id,
        invoice.send_attempts,
    )
    Invoice.objects.filter(pk=invoice.pk, stripe_id=None).update(stripe_id=found["id"])
    return found


def _made_before(invoice: Invoice, customer: str) -> Object | None:
    """What an earlier attempt made; else what a state of the database did that was lost in a restore: of the same month
    and sum it is taken over. Raises Mismatch where it is of another sum: a month is not billed twice."""
    since = _stamp(clock.following(invoice.month)) - int(customers.SKEW.total_seconds())
    wanted = {"customer": customer, "created": {"gte": since}, "limit": 100}
    made = list(client.every(lambda v1: v1.invoices.list(wanted)))
    own = next((each for each in made if each["metadata"].get("invoice") == invoice.public_id), None)
    return own or next((_taken_over(invoice, each) for each in made if _is_of_month(invoice, each)), None)


def _is_of_month(invoice: Invoice, found: Object) -> bool:
    known = Invoice.objects.filter(public_id=found["metadata"].get("invoice")).exists()
    return found["metadata"].get("month") == f"{invoice.month:%Y-%m}" and found["status"] != "void" and not known


def _taken_over(invoice: Invoice, found: Object) -> Object:
    exact = found["metadata"].get("exact_usd")
    if exact != money.usd(int(invoice.due)):
        raise Mismatch(f"Stripe has {found['id']} of this month, of {exact} USD: void it there, or write this one off")
    log.warning("Invoice %s is %s at Stripe, which a lost state of the database sent", invoice.public_id, found["id"])
    named = {"metadata": {"invoice": invoice.public_id}}
    return client.call(lambda v1: v1.invoices.update(found["id"], named))


def _described(invoice: Invoice, customer: str) -> Object:
    """The same at every attempt, or its idempotency key would not fit. Other items of the customer's stay out of it."""
    return {
        "customer": customer,
        "currency": "usd",
        "auto_advance": False,
        "collection_method": "charge_automatically",
        "pending_invoice_items_behavior": "exclude",
        "description": f"Batches of {invoice.month:%B %Y}",
        "metadata": {
            "invoice": invoice.public_id,
            "month": f"{invoice.month:%Y-%m}",
            "exact_usd": money.usd(int(invoice.due)),
        },
    }


def _items(stripe_id: str) -> dict[str, Object]:
    """The items of the invoice at Stripe, by our keys. Raises Mismatch for one that is not ours, or there twice."""
    found: dict[str, Object] = {}
    for each in client.every(lambda v1: v1.invoice_items.list({"invoice": stripe_id, "limit": 100})):
        key = each["metadata"].get("item")
        if key is None or key in found:
            raise Mismatch(f"{stripe_id} has an item that is not ours: {each['id']}")
        found[key] = each
    return found


def _add(invoice: Invoice, found: Object, item: Item) -> None:
    month = {"start": _stamp(invoice.month), "end": _stamp(clock.following(invoice.month)) - 1}
    asked = {
        "customer": found["customer"],
        "invoice": found["id"],
        "currency": "usd",
        "amount": item.cents,
        "description": item.text,
        "metadata": {"invoice": invoice.public_id, **item.metadata},
        "period": month,
        "discountable": False,
    }
    key = f"{invoice.public_id}-{item.key}"
    client.create(lambda v1, options: v1.invoice_items.create(asked, options), key, invoice.send_attempts)


def _stamp(day: Any) -> int:
    return int(clock.midnight(day).timestamp())


def _check(invoice: Invoice, stripe_id: str, wanted: list[Item]) -> None:
    """Before it can't be changed any more: what is there comes to what we say. Raises Mismatch."""
    there = {key: each["amount"] for key, each in _items(stripe_id).items()}
    if not Invoice.objects.filter(pk=invoice.pk, status=Invoice.Status.OPEN).exists():
        raise Mismatch("it was settled here meanwhile: delete the draft at Stripe")
    if there != {item.key: item.cents for item in wanted} or sum(there.values()) != invoice.cents:
        raise Mismatch(f"the items of {stripe_id} do not come to {invoice.cents} cents")


def _finalized(stripe_id: str, customer: str) -> Object:
    """Charged by Stripe where there is a payment method, else sent by mail where there is an address; from here on it
    advances by itself."""
    payer = client.call(lambda v1: v1.customers.retrieve(customer))
    if not customers.can_pay(payer) and payer.get("email"):
        by_mail = {"collection_method": "send_invoice", "days_until_due": DAYS_TO_PAY}
        client.call(lambda v1: v1.invoices.update(stripe_id, by_mail))
    return client.call(lambda v1: v1.invoices.finalize_invoice(stripe_id, {"auto_advance": True}))
