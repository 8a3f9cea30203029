"""What happens to customers and money at Stripe is noticed here, also when its webhooks were lost."""

import logging
from typing import Any

import pytest
from django.core.checks import run_checks

from billing import tasks
from billing.models import Customer, Invoice, StripeEvent
from billing.stripe import checkout, customers
from tests.conftest import Person
from tests.fakestripe import DECLINED, GOOD, FakeStripe
from tests.stripes import USD, WEBHOOK, deliver, holdings, month, past_due, post, status

pytestmark = pytest.mark.postgres_first

SITE = "https://a.example/"


@pytest.mark.sqlite_only
def test_a_payment_method_that_goes_is_noticed(owner: Person, stripe: FakeStripe) -> None:
    session = checkout.setup(owner.tenant.pk, SITE, SITE)
    stripe.objects.complete(session["id"])
    deliver(stripe)
    row = Customer.objects.get()
    method = stripe.objects.all[row.stripe_id or ""]["invoice_settings"]["default_payment_method"]
    assert row.can_pay and method
    stripe.objects.detach({}, method)
    assert deliver(stripe)[-1] == 200 and not Customer.objects.get().can_pay


@pytest.mark.sqlite_only
def test_a_late_word_of_an_old_card_changes_nothing(owner: Person, stripe: FakeStripe) -> None:
    first, second = (checkout.setup(owner.tenant.pk, SITE, SITE) for _ in range(2))
    stripe.objects.complete(first["id"])
    stripe.objects.ahead += 60
    stripe.objects.complete(second["id"])
    old, new = stripe.objects.of("payment_method")
    told = [event for event in stripe.objects.events if event["type"] == "checkout.session.completed"]
    assert [post(event) for event in reversed(told)] == [200, 200]
    [found] = stripe.objects.of("customer")
    assert found["invoice_settings"]["default_payment_method"] == new["id"] != old["id"]


@pytest.mark.sqlite_only
def test_a_customer_deleted_at_stripe_is_made_anew(owner: Person, stripe: FakeStripe) -> None:
    former = customers.found_or_made(owner.tenant.pk)
    stripe.objects.delete_customer({}, former)
    assert set(deliver(stripe)) == {200} and Customer.objects.get().stripe_id is None
    assert customers.found_or_made(owner.tenant.pk) != former


@pytest.mark.sqlite_only
def test_money_that_goes_back_is_brought_to_staff(owner: Person, stripe: FakeStripe, caplog: Any) -> None:
    charge = stripe.objects.make("ch", "charge", customer=customers.found_or_made(owner.tenant.pk), amount=400)
    stripe.objects.emit("charge.refunded", charge)
    stripe.objects.emit("charge.dispute.created", stripe.objects.make("dp", "dispute", charge=charge["id"], amount=400))
    with caplog.at_level(logging.ERROR):
        assert set(deliver(stripe)) == {200}
        for event in stripe.objects.events[-2:]:
            assert post(event) == 200
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["Stripe", "Stripe"]
    assert set(StripeEvent.objects.values_list("type", flat=True)) >= {"charge.refunded", "charge.dispute.created"}


def test_what_lost_webhooks_would_have_told_is_asked(owner: Person, stripe: FakeStripe, sent: Invoice) -> None:
    stripe.objects.collect()
    session = checkout.purchase(owner.tenant.pk, "25", SITE, SITE)
    stripe.objects.complete(session["id"])
    tasks.refresh_invoices()
    assert (status(), past_due(), holdings(owner)["credits"]) == ("open", True, 25 * USD)
    stripe.objects.pay(sent.stripe_id or "")
    tasks.refresh_invoices()
    assert (status(), past_due()) == ("paid", False)
    tasks.refresh_invoices()
    deliver(stripe)
    assert holdings(owner) == {"receivable": 0, "cash": -29 * USD, "credits": 25 * USD, "loss": 0}


@pytest.mark.sqlite_only
def test_a_card_that_declines_and_one_that_is_charged_at_once(owner: Person, stripe: FakeStripe) -> None:
    for card, after in ((DECLINED, ("open", True)), (DECLINED, ("open", True)), (GOOD, ("paid", False))):
        session = checkout.setup(owner.tenant.pk, SITE, SITE)
        stripe.objects.ahead += 60
        stripe.objects.complete(session["id"], card)
        assert set(deliver(stripe)) == {200} and Customer.objects.get().can_pay
        if not Invoice.objects.exists():
            month(owner, ("a", USD))
            tasks.send_invoices()
            stripe.objects.collect()
        deliver(stripe)
        assert (status(), past_due()) == after
    assert set(map(post, stripe.objects.events)) == {200}
    assert len(stripe.objects.charges) == 1


@pytest.mark.sqlite_only
def test_real_webhooks_over_http(owner: Person, stripe: FakeStripe, sent: Invoice, live_server: Any) -> None:
    stripe.objects.pay(sent.stripe_id or "")
    assert set(stripe.push(f"{live_server.url}{WEBHOOK}")) == {200}
    assert status() == "paid"


@pytest.mark.sqlite_only
def test_what_cannot_be_asked_is_asked_in_an_hour(
    owner: Person, stripe: FakeStripe, sent: Invoice, caplog: Any
) -> None:
    stripe.objects.pay(sent.stripe_id or "")
    stripe.faults = {len(stripe.calls): "500", len(stripe.calls) + 2: "reset"}
    for _ in range(2):
        tasks.refresh_invoices()
        assert status() == "open" and "could not be asked" in caplog.text
    tasks.refresh_invoices()
    assert status() == "paid"


@pytest.mark.sqlite_only
def test_an_invoice_that_is_gone_there_keeps_no_other_from_being_asked_about(
    owner: Person, outsider: Person, stripe: FakeStripe, sent: Invoice
) -> None:
    other = month(outsider, ("a", USD))
    tasks.send_invoices()
    other.refresh_from_db()
    stripe.objects.pay(other.stripe_id or "")
    del stripe.objects.all[sent.stripe_id or ""]
    tasks.refresh_invoices()
    other.refresh_from_db()
    assert other.status == "paid"


@pytest.mark.sqlite_only
@pytest.mark.parametrize(("key", "secret", "ids"), [("", "", []), ("sk", "whsec", []), ("sk", "", ["billing.W001"])])
def test_a_key_without_webhooks_is_warned_of(settings: Any, key: str, secret: str, ids: list[str]) -> None:
    settings.STRIPE_API_KEY, settings.STRIPE_WEBHOOK_SECRET = key, secret
    assert [found.id for found in run_checks() if (found.id or "").startswith("billing.")] == ids
