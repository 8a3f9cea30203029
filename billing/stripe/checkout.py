"""Stripe's own pages, where a tenant leaves a payment method, buys credits, or looks after both."""

import hashlib

from billing import ledger, money
from billing.ledger import Kind
from billing.stripe import client, customers
from billing.stripe.client import Object

MODES = ("setup", "payment")
MAX_URL = 2000  # characters
URL = (  # where a page may lead back to
    r"^(https://[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?|http://(localhost|127\.0\.0\.1|\[::1\]))"
    r"(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?([/?#][!-\[\]-~]*)?$"
)
AMOUNT = r"^([1-9][0-9]{0,4}(\.[0-9]{1,2})?|100000(\.00?)?)$"  # USD that may be bought at once
CREDITS = {"bought": "credits"}  # metadata of a session that buys some


def setup(tenant: int, success_url: str, cancel_url: str, key: str = "") -> Object:
    """A page that asks for a card: a bank debit takes days, and its invoice would be past due meanwhile. Raises
    client.Failed."""
    asked = {"mode": "setup", "currency": "usd", "payment_method_types": ["card"]}
    return _session(tenant, asked, success_url, cancel_url, key)


def purchase(tenant: int, usd: str, success_url: str, cancel_url: str, key: str = "") -> Object:
    """A page that sells credits for an AMOUNT. Raises client.Failed."""
    cents = money.amount(usd) // money.CENT
    price = {"currency": "usd", "unit_amount": cents, "product_data": {"name": "Prepaid credits"}}
    asked = {
        "mode": "payment",
        "line_items": [{"quantity": 1, "price_data": price}],
        "metadata": CREDITS,
        "payment_intent_data": {"metadata": CREDITS},
    }
    return _session(tenant, asked, success_url, cancel_url, key)


def portal(tenant: int, return_url: str) -> Object:
    """A page where the tenant changes its payment methods and finds its invoices. Raises client.Failed."""
    customer = customers.found_or_made(tenant)
    asked = {"customer": customer, "return_url": return_url}
    return client.call(lambda v1: v1.billing_portal.sessions.create(asked))


def _session(tenant: int, asked: Object, success_url: str, cancel_url: str, key: str) -> Object:
    """`key` is the client's own Idempotency-Key: Stripe keeps it as long as we would."""
    customer = customers.found_or_made(tenant)
    asked = {**asked, "customer": customer, "success_url": success_url, "cancel_url": cancel_url}
    digest = hashlib.sha256(f"{customer} {key}".encode()).hexdigest()
    options = {"idempotency_key": f"checkout-{digest}"} if key else {}
    return client.call(lambda v1: v1.checkout.sessions.create(asked, options))


def credit(session: Object) -> bool:
    """Post the credits that a session bought, once; False when there are none, or they were posted before."""
    customer = customers.known(session.get("customer"))
    bought = (session.get("metadata") or {}).get("bought") == CREDITS["bought"]
    if customer is None or not bought or session["payment_status"] != "paid" or session["currency"] != "usd":
        return False
    amount = session["amount_subtotal"] * money.CENT
    note = f"Stripe {session.get('payment_intent')}"
    return ledger.post(customer.tenant_id, Kind.CREDIT_PURCHASE, session["id"], amount, note) is not None


def adopt_payment_method(session: Object) -> None:
    """Charge invoices to the payment method that a session left, unless a later one is charged already. Raises
    client.Failed."""
    customer, setup = session["customer"], session.get("setup_intent")
    if not setup:
        return
    wanted = {"expand": ["payment_method"]}
    left = client.call(lambda v1: v1.setup_intents.retrieve(setup, wanted)).get("payment_method")
    wanted = {"expand": ["invoice_settings.default_payment_method"]}
    charged = client.call(lambda v1: v1.customers.retrieve(customer, wanted))["invoice_settings"]
    present = charged.get("default_payment_method")
    if not left or left.get("customer") != customer or (present and present["created"] >= left["created"]):
        return
    change = {"invoice_settings": {"default_payment_method": left["id"]}}
    client.call(lambda v1: v1.customers.update(customer, change))
