"""Against a Stripe that others made: localstripe, in a process of its own."""

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from billing.models import Customer, StripeEvent
from billing.stripe import client, customers
from tests.conftest import Person, answers, free_port, until
from tests.fakestripe import KEY, SECRET
from tests.receiver import Receiver
from tests.stripes import bring

pytestmark = pytest.mark.sqlite_only  # it is localstripe's answers that are tried
# Its own command listens on every interface, keeps a file, and its lists know no filters by time or status.
SERVER = """
import sys
from aiohttp import web
from localstripe.resources import Customer, Invoice, store
from localstripe.server import app

def unfiltered(listed):
    return classmethod(lambda cls, url, created=None, status=None, **sent: listed(cls, url, **sent))

store.dump_to_disk = lambda: None
for kind in (Customer, Invoice):
    kind._api_list_all = unfiltered(kind._api_list_all.__func__)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
"""
GOOD, REFUSED = "4242424242424242", "4000000000000002"


@pytest.fixture
def localstripe(settings: Any) -> Iterator[str]:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", SERVER, str(port)])
    settings.STRIPE_API_KEY, settings.STRIPE_API_BASE, settings.STRIPE_WEBHOOK_SECRET = KEY, address, SECRET
    try:
        until(lambda: answers(f"{address}/js.stripe.com/v3/"))
        yield address
    finally:
        process.terminate()
        process.wait(10)


def attach(customer: str, number: str) -> str:
    card = {"number": number, "exp_month": 12, "exp_year": 2040, "cvc": "123"}
    made = client.call(lambda v1: v1.payment_methods.create({"type": "card", "card": card}))["id"]
    client.call(lambda v1: v1.payment_methods.attach(made, {"customer": customer}))
    return str(made)


def test_customers_payment_methods_declines_and_webhooks(
    owner: Person, outsider: Person, localstripe: str, receiver: Receiver
) -> None:
    hook = {"url": receiver.url, "secret": SECRET, "events": ["customer.updated", "customer.deleted"]}
    assert httpx.post(f"{localstripe}/_config/webhooks/ours", json=hook, trust_env=False).status_code == 200
    mine, theirs = (customers.found_or_made(each.tenant.pk) for each in (owner, outsider))
    assert mine != theirs and customers.found_or_made(owner.tenant.pk) == mine
    with pytest.raises(client.Failed, match="CardError 402 card_declined"):
        attach(mine, REFUSED)
    method = attach(mine, GOOD)
    assert not customers.state(mine).can_pay
    chosen = {"invoice_settings": {"default_payment_method": method}}
    client.call(lambda v1: v1.customers.update(mine, chosen))
    client.call(lambda v1: v1.customers.delete(theirs))
    updated, deleted = until(lambda: len(receiver.received) >= 2 and receiver.received)
    for received in (updated, deleted):
        body, signature = received.body, received.headers["stripe-signature"]
        assert bring(body + b" ", signature) == 400
        assert [bring(body, signature) for _ in range(2)] == [200, 200]
    assert Customer.objects.get(tenant=owner.tenant).can_pay
    assert Customer.objects.get(tenant=outsider.tenant).stripe_id is None
    assert sorted(StripeEvent.objects.values_list("type", flat=True)) == ["customer.deleted", "customer.updated"]
    assert abs(StripeEvent.objects.latest("pk").created_at.timestamp() - time.time()) < 300


def test_an_answer_that_was_lost_is_found_again(owner: Person, localstripe: str) -> None:
    made = customers.found_or_made(owner.tenant.pk)
    Customer.objects.update(stripe_id=None)
    assert customers.found_or_made(owner.tenant.pk) == made
