"""Invoices reach Stripe once, whatever is cut off, with the ledger's sum to the last digit."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Sum
from django_q.models import OrmQ

from batches import sweeping
from billing import invoicing, ledger, money, tasks
from billing.ledger import Kind
from billing.models import Customer, Invoice, LedgerEntry
from billing.stripe import client, customers, items, sending
from tenants import clock
from tenants.models import Membership, User
from tests.conftest import Person, person
from tests.fakestripe import FakeStripe
from tests.stripes import SEPTEMBER, USD, month
from tests.test_ledger import race

pytestmark = pytest.mark.postgres_first

MODELS = (("a", USD + 4_000_000_000), ("b", 3 * USD + 123_456_789_012), ("c", 1))
DAY = 25 * 3600  # seconds: Stripe's idempotency keys are forgotten


def send(invoice: Invoice) -> Invoice:
    """When its time has come."""
    Invoice.objects.filter(pk=invoice.pk, sent_at=None).update(send_at=clock.now())
    tasks.send_invoices()
    return Invoice.objects.get(pk=invoice.pk)


def assert_once(stripe: FakeStripe, invoice: Invoice) -> None:
    """One customer, one invoice with its items, to be charged once."""
    [found] = [each for each in stripe.objects.of("invoice") if each["metadata"]["invoice"] == invoice.public_id]
    there = [each for each in stripe.objects.of("invoiceitem") if each["invoice"] == found["id"]]
    assert [int(each["metadata"]["item"]) for each in there] == list(range(len(MODELS)))
    assert sum(each["amount"] for each in there) == found["subtotal"] == invoice.cents == 413
    assert (found["status"], found["id"], found["hosted_invoice_url"]) == (
        "open",
        invoice.stripe_id,
        invoice.stripe_url,
    )
    assert found["auto_advance"] and invoice.sent_at and not invoice.send_at
    reference = Customer.objects.get(tenant=invoice.tenant_id).stripe_reference
    [customer] = [each for each in stripe.objects.of("customer") if each["metadata"]["customer"] == reference]
    assert found["customer"] == customer["id"]


def test_a_months_total_is_the_same_in_three_places(owner: Person, stripe: FakeStripe) -> None:
    picos = [random.Random(7).randrange(10**13) for _ in range(60)]
    ledger.post(owner.tenant.pk, Kind.CREDIT_GRANT, "welcome", 5 * USD)
    invoice = send(month(owner, *((f"model-{n:02}", pico) for n, pico in enumerate(picos))))
    [found] = stripe.objects.of("invoice")
    charges = LedgerEntry.objects.filter(kind="batch_charge").aggregate(Sum("amount"))["amount__sum"]
    used = LedgerEntry.objects.filter(kind="credit_use").aggregate(Sum("amount"))["amount__sum"]
    there = stripe.objects.of("invoiceitem")
    exact = sum(usd_as_pico(item["metadata"]["exact_usd"]) for item in there)
    assert charges - used == invoice.due == usd_as_pico(found["metadata"]["exact_usd"]) == exact == sum(picos) - 5 * USD
    assert invoice.cents == found["subtotal"] == sum(item["amount"] for item in there) == money.cents(invoice.due)
    assert len(there) == 61 and there[-1]["metadata"]["kind"] == "credit_use" and there[-1]["amount"] < 0
    print(f"ledger {money.usd(charges - used)}, invoice {money.usd(invoice.due)}, Stripe {found['metadata']['exact_usd']}; "
          f"cents {invoice.cents} and {found['subtotal']}")  # fmt: skip


def usd_as_pico(text: str) -> int:
    whole, _, fraction = text.removeprefix("-").partition(".")
    return int(whole + fraction.ljust(12, "0")) * (-1 if text.startswith("-") else 1)


@pytest.mark.sqlite_only
def test_items_come_to_the_cents_whatever_they_are() -> None:
    dice = random.Random(3)
    for _ in range(300):
        parts = [
            items.Part("", dice.choice([1, -1, 1]) * dice.randrange(10 ** dice.randrange(1, 15)), {}) for _ in range(30)
        ]
        rounded = list(items._rounded(parts))
        assert sum(item.cents for item in rounded) == money.cents(sum(part.pico for part in parts))
        assert all(abs(item.cents * money.CENT - item.pico) <= money.CENT for item in rounded)


def steps(stripe: FakeStripe) -> int:
    """How many calls an invoice takes."""
    sent = send(month(person("first"), *MODELS))
    assert_once(stripe, sent)
    return len(stripe.calls)


KINDS = ("lost", "500 after", "500 kept", "500", "429", "reset")
FAULTS = [
    ("lost", DAY),
    *(pytest.param(*each, marks=pytest.mark.sqlite_only) for each in (("lost", 60), ("500 kept", 60), ("500", 60))),
    *(
        pytest.param(*each, marks=pytest.mark.soak)
        for each in (("500 after", 60), ("500 after", DAY), ("500 kept", DAY), ("429", 60), ("reset", 60))
    ),
]


@pytest.mark.parametrize(("fault", "later"), FAULTS)
def test_a_call_that_fails_is_made_again_without_a_second_effect(
    stripe: FakeStripe, fault: str, later: int, transactional_db: None
) -> None:
    """At every step, before Stripe has forgotten its keys and after it."""
    for step in range(steps(stripe)):
        someone = person(f"cut off at {step}")
        invoice = month(someone, *MODELS)
        stripe.faults = {len(stripe.calls) + step: fault}
        invoice = send(invoice)
        assert not stripe.faults and (invoice.sent_at is None) == bool(invoice.send_error)
        assert "sk_test" not in invoice.send_error
        if invoice.sent_at is None:
            assert invoice.send_at and invoice.send_at > clock.now()
            stripe.objects.ahead += later
        assert_once(stripe, send(invoice))


@pytest.mark.sqlite_only
def test_an_answer_that_does_not_come_is_not_waited_for(owner: Person, stripe: FakeStripe, monkeypatch: Any) -> None:
    monkeypatch.setattr(client, "ANSWER", 0.2)
    invoice = month(owner, *MODELS)
    stripe.faults = {2: "slow"}
    invoice = send(invoice)
    assert invoice.send_error.startswith("APIConnectionError") and len(stripe.objects.of("invoice")) == 1
    assert_once(stripe, send(invoice))


@pytest.mark.sqlite_only
def test_without_looking_there_would_be_two(owner: Person, stripe: FakeStripe, monkeypatch: Any) -> None:
    """What the test of faults is worth."""
    invoice = month(owner, *MODELS)
    stripe.faults = {2: "lost"}
    invoice = send(invoice)
    stripe.objects.ahead += DAY
    monkeypatch.setattr(sending, "_made_before", lambda *_: None)
    send(invoice)
    assert len(stripe.objects.of("invoice")) == 2


class Killed(BaseException):
    """As a SIGKILL: nothing is tidied."""


def killing(monkeypatch: Any, dice: random.Random) -> Callable[[], None]:
    """Have the sender die before or after one of its next calls; the function that says so."""
    left = [-1, True]

    def dying(ask: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and left[1]:
                raise Killed
            found = ask(*args)
            if left[0] == 0:
                raise Killed
            return found

        return call

    for name in ("call", "every"):
        monkeypatch.setattr(client, name, dying(getattr(client, name)))

    def arm() -> None:
        left[:] = [dice.randrange(1, 10), dice.random() < 0.5]

    return arm


@pytest.mark.parametrize("invoices", [8, pytest.param(300, marks=pytest.mark.soak)])
def test_a_sender_may_die_anywhere_again_and_again(
    transactional_db: None, stripe: FakeStripe, monkeypatch: Any, invoices: int
) -> None:
    dice, deaths = random.Random(11), 0
    arm = killing(monkeypatch, dice)
    for number in range(invoices):
        invoice = month(person(f"tenant {number}"), *MODELS)
        while invoice.sent_at is None:
            arm()
            stripe.faults = {len(stripe.calls) + dice.randrange(20): dice.choice(KINDS)}
            try:
                invoice = send(invoice)
            except Killed:
                deaths += 1
                invoice.refresh_from_db()
            stripe.objects.ahead += dice.choice([60, DAY])
        stripe.faults = {}
        assert_once(stripe, invoice)
    print(f"deaths {deaths} over {invoices} invoices, each there once")
    assert deaths > invoices // 2


def test_sixteen_send_it_once(owner: Person, stripe: FakeStripe) -> None:
    invoice = month(owner, *MODELS)
    race(16, lambda _: tasks.send_invoices())
    invoice.refresh_from_db()
    assert_once(stripe, invoice)
    assert invoice.send_attempts == 1


def test_one_that_was_taken_for_dead_does_no_harm(owner: Person, stripe: FakeStripe) -> None:
    month(owner, *MODELS)
    slow = sending.claim()
    assert slow and sending.claim() is None
    Invoice.objects.update(send_at=clock.now() - timedelta(seconds=1))
    quick = sending.claim()
    assert quick
    sending._attempt(quick)
    sending._attempt(slow)
    invoice = Invoice.objects.get()
    assert_once(stripe, invoice)
    assert invoice.send_attempts == 2


def test_sixteen_make_one_customer(owner: Person, stripe: FakeStripe) -> None:
    made = race(16, lambda _: customers.found_or_made(owner.tenant.pk))
    assert len(set(made)) == 1 and len(stripe.objects.of("customer")) == 1


@pytest.mark.sqlite_only
def test_how_it_is_collected(stripe: FakeStripe, transactional_db: None) -> None:
    """Charged where there is a payment method, else by mail where there is an address."""
    charged, mailed, neither = person("charged"), person("mailed"), person("neither")
    for someone in (charged, mailed):
        user = User.objects.create_user(f"{someone.tenant.name}@example.com")
        Membership.objects.create(tenant=someone.tenant, user=user)
    customer = customers.found_or_made(charged.tenant.pk)
    method = stripe.objects.attach(customer)["id"]
    stripe.objects.update_customer({"invoice_settings": {"default_payment_method": method}}, customer)
    sent = {someone.tenant.name: send(month(someone, ("a", USD))).stripe_id for someone in (charged, mailed, neither)}
    found = {name: stripe.objects.all[an_id or ""] for name, an_id in sent.items()}
    assert {name: each["collection_method"] for name, each in found.items()} == {
        "charged": "charge_automatically",
        "mailed": "send_invoice",
        "neither": "charge_automatically",
    }
    assert found["mailed"]["days_until_due"] == "14"
    assert stripe.objects.all[found["mailed"]["customer"]]["email"] == "mailed@example.com"


@pytest.mark.sqlite_only
def test_what_was_added_by_somebody_else_is_not_finalized(owner: Person, stripe: FakeStripe) -> None:
    invoice = month(owner, *MODELS)
    stripe.faults = {3: "500"}
    invoice = send(invoice)
    asked = {"customer": Customer.objects.get().stripe_id, "invoice": invoice.stripe_id, "amount": 5}
    stripe.objects.create_item(asked | {"period": {"start": "1", "end": "2"}})
    invoice = send(invoice)
    assert "an item that is not ours" in invoice.send_error and invoice.sent_at is None
    assert stripe.objects.of("invoice")[0]["status"] == "draft"


@pytest.mark.sqlite_only
def test_corrections_have_an_item_of_their_own(owner: Person, stripe: FakeStripe) -> None:
    send(month(owner, ("a", 4 * USD), first=SEPTEMBER))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clock, "now", lambda: datetime(2026, 10, 4, tzinfo=UTC))
        ledger.correct(LedgerEntry.objects.get(kind="batch_charge"), "It never ran.")
    invoice = month(owner, ("b", 9 * USD + 1))
    send(invoice)
    there = [each for each in stripe.objects.of("invoiceitem") if each["metadata"]["invoice"] == invoice.public_id]
    shown = [
        (each["amount"], each["metadata"]["exact_usd"], each["description"].split(":")[0].split(";")[0])
        for each in there
    ]
    assert shown == [(900, "9.000000000001", "b"), (-400, "-4", "Corrections of earlier charges")]


@pytest.mark.sqlite_only
def test_nothing_is_sent_without_a_key(owner: Person, stripe: FakeStripe, settings: Any) -> None:
    settings.STRIPE_API_KEY = ""
    invoice = month(owner, *MODELS)
    assert invoice.send_at is None
    send(invoice)
    tasks.refresh_invoices()
    sweeping.sweep()
    assert stripe.calls == [] and not sending.is_due()


def test_what_costs_nothing_is_not_sent_and_a_settled_one_neither(owner: Person, stripe: FakeStripe) -> None:
    assert month(owner, ("a", 1), first=SEPTEMBER).send_at is None
    invoice = month(owner, ("a", USD))
    assert invoice.send_at and invoicing.pay(invoice, "bank transfer")
    assert not sending.is_due() and not sending.again(invoice)
    tasks.send_invoices()
    assert stripe.calls == []


@pytest.mark.sqlite_only
def test_staff_may_have_it_sent_again_at_once(owner: Person, stripe: FakeStripe) -> None:
    invoice = month(owner, *MODELS)
    stripe.faults = {0: "500"}
    tasks.send_invoices()
    assert not sending.is_due() and sending.again(invoice) and sending.is_due()
    assert sending.claim() and not sending.again(invoice), "it is being sent"
    assert_once(stripe, send(invoice))
    invoice.refresh_from_db()
    assert not sending.again(invoice)


@pytest.mark.sqlite_only
def test_one_settled_here_meanwhile_is_not_charged_there(owner: Person, stripe: FakeStripe) -> None:
    invoice = month(owner, *MODELS)
    claimed = sending.claim()
    assert claimed and invoicing.pay(invoice, "bank transfer")
    sending._attempt(claimed)
    invoice.refresh_from_db()
    assert invoice.send_error.startswith("it was settled here") and stripe.objects.of("invoice")[0]["status"] == "draft"
    assert not sending.is_due()


def rung() -> int:
    """How often the queue was told of invoices; told of none any more."""
    rows = list(OrmQ.objects.all())
    OrmQ.objects.all().delete()
    return sum(row.func() == "billing.tasks.send_invoices" for row in rows)


@pytest.mark.sqlite_only
def test_the_queue_is_told_and_may_lose_it(owner: Person, stripe: FakeStripe) -> None:
    invoice = month(owner, *MODELS)
    assert rung() == 1
    sweeping.sweep()
    assert rung() == 1
    send(invoice)
    sweeping.sweep()
    assert rung() == 0


def test_what_is_at_stripe_is_settled_there(owner: Person, stripe: FakeStripe) -> None:
    sent = send(month(owner, *MODELS))
    for verb in ("pay", "write-off"):
        with pytest.raises(CommandError, match="at Stripe"):
            call_command("invoice", verb, sent.public_id, "--note", "by hand")
    with pytest.raises(CommandError, match="has it already"):
        call_command("invoice", "send", sent.public_id)
    assert Invoice.objects.get().status == "open"
