"""What Stripe tells is acted on once each, by what is so when it is read; what is not Stripe's is refused."""

import random
import time
from typing import Any

import pytest
from django.test import Client

from billing import tasks
from billing.models import Customer, Invoice, LedgerEntry, StripeEvent
from billing.stripe import client, customers, events
from tests import fakestripe
from tests.conftest import Person
from tests.fakestripe import FakeStripe, signed
from tests.stripes import SEPTEMBER, USD, WEBHOOK, bring, deliver, holdings, month, past_due, post, status
from tests.test_ledger import race

pytestmark = pytest.mark.postgres_first


def test_a_decline_makes_it_past_due_and_a_payment_clears_it(owner: Person, stripe: FakeStripe, sent: Invoice) -> None:
    assert set(deliver(stripe)) == {200} and not past_due()
    stripe.objects.collect()
    assert deliver(stripe) == [200]
    assert (status(), past_due()) == ("open", True)
    since = Customer.objects.get().past_due_since
    stripe.objects.charge(sent.stripe_id or "")
    assert deliver(stripe) == [200] and Customer.objects.get().past_due_since == since
    stripe.objects.pay(sent.stripe_id or "")
    assert deliver(stripe) == [200]
    assert (status(), past_due()) == ("paid", False)
    assert holdings(owner) == {"receivable": 0, "cash": -4 * USD, "credits": 0, "loss": 0}
    assert stripe.objects.charges == [(sent.stripe_id, 400)]


@pytest.mark.sqlite_only
def test_one_of_two_paid_is_still_past_due(owner: Person, stripe: FakeStripe) -> None:
    first, second = month(owner, ("a", USD), first=SEPTEMBER), month(owner, ("a", USD))
    tasks.send_invoices()
    stripe.objects.collect()
    deliver(stripe)
    assert past_due()
    for invoice, owing in ((first, True), (second, False)):
        invoice.refresh_from_db()
        stripe.objects.pay(invoice.stripe_id or "")
        deliver(stripe)
        assert past_due() == owing


@pytest.mark.sqlite_only
def test_what_is_sent_by_mail_is_past_due_after_its_days(owner: Person, stripe: FakeStripe) -> None:
    stripe.objects.all[customers.found_or_made(owner.tenant.pk)]["email"] = "owner@example.com"
    month(owner, ("a", USD))
    tasks.send_invoices()
    stripe.objects.collect()
    deliver(stripe)
    assert not past_due()
    [found] = stripe.objects.of("invoice")
    found["due_date"] = int(time.time()) - 60
    stripe.objects.collect()
    deliver(stripe)
    assert past_due()


@pytest.mark.parametrize("end", ["void", "uncollectible"])
def test_what_is_given_up_at_stripe_is_written_off(owner: Person, stripe: FakeStripe, sent: Invoice, end: str) -> None:
    stripe.objects.end(sent.stripe_id or "", end)
    assert set(deliver(stripe)) == {200}
    assert (status(), holdings(owner)["loss"]) == ("void", -4 * USD)
    if end == "uncollectible":
        stripe.objects.pay(sent.stripe_id or "")
        assert deliver(stripe) == [200] and status() == "paid" and holdings(owner)["loss"] == 0


# --- row 28 ----------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_only
def test_what_is_not_stripes_or_not_of_now_is_refused(stripe: FakeStripe, sent: Invoice) -> None:
    stripe.objects.pay(sent.stripe_id or "")
    event, now = stripe.objects.events[-1], time.time()
    body, signature = signed(event)
    stamp, digest = signature.split(",")
    wrong = [
        (body, ""),
        (body, "v1=x"),
        (body, stamp),
        (body, f"{stamp},v1="),
        (body, f"{stamp},v1=é"),
        (body, f"{stamp},v0={digest[3:]}"),
        (body, f"t=x,{digest}"),
        (body, f"t={'9' * 5_000},{digest}"),
        (body, f"t=-1,{digest}"),
        (body, "," * 5_000),
        (body + b" ", signature),
        (body.replace(b"invoice.paid", b"invoice.oops"), signature),
        (b"\xff", signature),
        (b"", signature),
        signed(event, secret="whsec_other"),
        signed(event, at=now - 400),
        signed(event, at=now + 400),
        signed(event, at=now + 10**9),
        signed(["no event"]),
    ]  # fmt: skip
    before = len(stripe.calls)
    assert [bring(*each) for each in wrong] == [400] * len(wrong)
    assert status() == "open" and not StripeEvent.objects.exists() and len(stripe.calls) == before
    answer = Client().post(WEBHOOK, body, content_type="application/json", headers={"Stripe-Signature": "t=1,v1=x"})
    assert answer.content == b""
    assert bring(b"x" * (257 * 1024), signature) == 400
    assert bring(*signed(event, at=now - 200)) == 200 and status() == "paid"


@pytest.mark.sqlite_only
def test_the_library_alone_would_take_the_far_future(stripe: FakeStripe) -> None:
    import stripe as library

    body, signature = signed({}, at=time.time() + 10**9)
    assert library.WebhookSignature.verify_header(body, signature, fakestripe.SECRET, 300)
    with pytest.raises(client.BadSignature):
        client.verified(body, signature)


def test_a_replay_does_nothing(owner: Person, stripe: FakeStripe, sent: Invoice) -> None:
    stripe.objects.pay(sent.stripe_id or "")
    event = stripe.objects.events[-1]
    assert [post(event) for _ in range(3)] == [200] * 3
    assert StripeEvent.objects.filter(type="invoice.paid").count() == 1
    before = len(stripe.calls)
    assert post(event) == 200 and len(stripe.calls) == before, "it is known without asking"


@pytest.mark.parametrize("guarded", [True, False])
def test_sixteen_deliveries_act_once(
    owner: Person, stripe: FakeStripe, sent: Invoice, monkeypatch: Any, guarded: bool
) -> None:
    """And without the row that an event leaves they would not."""
    acted: list[int] = []
    real = customers.store

    def store(*args: Any) -> None:
        acted.append(1)
        real(*args)

    monkeypatch.setattr(customers, "store", store)
    if not guarded:
        monkeypatch.setattr(events, "_once", lambda event, effect: effect() or True)
    stripe.objects.pay(sent.stripe_id or "")
    event = stripe.objects.events[-1]
    assert race(16, lambda _: post(event)) == [200] * 16
    assert (len(acted) == 1) == guarded and status() == "paid"
    assert LedgerEntry.objects.filter(kind="payment").count() == 1


def test_in_any_order_the_end_is_the_same(owner: Person, stripe: FakeStripe, sent: Invoice) -> None:
    """What failed first and was paid then; told backwards, twice, and with all in between."""
    stripe.objects.collect()
    stripe.objects.charge(sent.stripe_id or "")
    stripe.objects.end(sent.stripe_id or "", "uncollectible")
    stripe.objects.pay(sent.stripe_id or "")
    dice = random.Random(5)
    told = [event for event in stripe.objects.events if event["type"].startswith("invoice")] * 2
    dice.shuffle(told)
    for event in told:
        assert post(event) == 200
        assert (status(), past_due()) == ("paid", False) or event["type"] == "invoice.finalized"
    assert holdings(owner) == {"receivable": 0, "cash": -4 * USD, "credits": 0, "loss": 0}


def test_an_older_reading_does_not_undo_a_newer_one(owner: Person, stripe: FakeStripe, sent: Invoice) -> None:
    stripe.objects.collect()
    stripe_id = Customer.objects.get().stripe_id or ""
    older = customers.state(stripe_id)
    stripe.objects.pay(sent.stripe_id or "")
    newer = customers.state(stripe_id)
    customers.store(stripe_id, newer)
    customers.store(stripe_id, older)
    assert older.past_due and not past_due()


@pytest.mark.sqlite_only
def test_what_is_unknown_or_none_of_ours_is_taken_and_ignored(owner: Person, stripe: FakeStripe, sent: Invoice) -> None:
    foreign = stripe.objects.create_customer({"metadata": {}})["id"]
    strange = stripe.objects.create_invoice({"customer": foreign, "metadata": {"invoice": sent.public_id}})
    made = {"id": "evt_x", "object": "event", "created": 1, "livemode": False}

    def told(kind: Any, subject: Any, **more: Any) -> dict[str, Any]:
        return {**made, "type": kind, "data": {"object": subject}, **more}

    deliver(stripe)
    before = StripeEvent.objects.count()
    strange["status"] = "paid"
    for event in (
        told("invoice.paid", strange), told("invoice.paid", {"id": "in_never", "object": "invoice"}), {}, made,
        told("balance.available", {"id": "x"}), told("no.such.type", {}), told(5, {}), told(["x"], {}), told(None, None),
        told("customer.updated", {"id": foreign, "object": "customer"}), told("invoice.paid", {}), told("invoice.paid", []),
        told("invoice.paid", {"id": 5}), told("invoice.paid", {"id": "../customers"}), told("invoice.paid", {"id": "\x00\ud800"}),
        told("charge.dispute.created", {"id": "dp_1", "object": "dispute", "charge": "\x00"}), told("invoice.paid", {"id": "x" * 999}),
        told("customer.updated", {"id": "a", "customer": "\x00"}), told("invoice.paid", {"id": sent.stripe_id}, created=10**30),
        {**made, "type": "invoice.paid", "data": []}, told("invoice.paid", {"id": sent.stripe_id}, id=5),
        told("invoice.paid", {"id": sent.stripe_id}, livemode=True), told("invoice.paid", {"id": sent.stripe_id}, created="x"),
        told("charge.refunded", {"id": "ch_1", "object": "charge", "customer": foreign}),
        told("payment_method.detached", {"id": "pm_1", "object": "payment_method", "customer": None}),
        told("customer.deleted", {"id": foreign, "object": "customer"}),
    ):  # fmt: skip
        assert post(event) == 200, event
    assert StripeEvent.objects.count() == before and status() == "open"


def test_while_stripe_cannot_be_asked_nothing_is_done_by_halves(
    owner: Person, stripe: FakeStripe, sent: Invoice
) -> None:
    stripe.objects.pay(sent.stripe_id or "")
    event = stripe.objects.events[-1]
    for step, fault in enumerate(("500", "reset", "429")):
        stripe.faults = {len(stripe.calls) + step: fault}
        assert post(event) == 503
        assert status() == "open" and not StripeEvent.objects.exists()
    assert post(event) == 200 and status() == "paid"


@pytest.mark.sqlite_only
def test_without_keys_there_is_no_webhook(owner: Person, stripe: FakeStripe, settings: Any) -> None:
    for name in ("STRIPE_WEBHOOK_SECRET", "STRIPE_API_KEY"):
        former = getattr(settings, name)
        setattr(settings, name, "")
        assert post({"type": "invoice.paid"}) == 404
        setattr(settings, name, former)
    assert Client().get(WEBHOOK).status_code == 405
