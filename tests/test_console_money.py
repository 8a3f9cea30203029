"""The money in the console and in its commands: whoever moves it is on the trail, and it adds up to the last pico."""

import html
import json
import re
from datetime import UTC, date, datetime
from functools import partial
from threading import Event
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from django.contrib import admin
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.http import QueryDict
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import strip_tags

from batches.models import Upstream
from billing import corrections, customers, invoicing, ledger, prices, reconciling, settlements
from billing.ledger import Account, Kind
from billing.models import Customer, Invoice, LedgerEntry, Price, TenantDiscount
from billing.stripe import sending
from tenants import trail
from tenants.models import AuditEvent, Tenant, User
from tests.conftest import Person
from tests.hostile import naughty_strings
from tests.staff import confirmed, member_of, signed_in
from tests.test_admin import staff
from tests.test_invoices import at, charge, taken
from tests.test_ledger import race
from tests.test_web import make_batches

pytestmark = pytest.mark.postgres_first

DAY = datetime.now(UTC).date()
USD = 10**12
__all__ = ["at"]  # a fixture


def events(*actions: str) -> list[tuple[str, str, str, Any]]:
    """The trail, oldest first: of these actions, or all of it."""
    rows = AuditEvent.objects.filter(action__in=actions) if actions else AuditEvent.objects.all()
    return list(rows.order_by("pk").values_list("actor", "action", "target", "details"))


def holdings(person: Person) -> tuple[int, int]:
    """What it owes, and its credits."""
    return ledger.balance(person.tenant.pk, Account.RECEIVABLE), ledger.balance(person.tenant.pk, Account.CREDITS)


def adds_up() -> bool:
    return not [*reconciling.ledger_findings(), *reconciling.invoice_findings()]


@pytest.fixture
def october(owner: Person, at: Any) -> Invoice:
    """A month of 10.000000000001 USD, closed."""
    at(2026, 10, 5)
    charge(owner, "batch_1", taken("m", date(2026, 10, 5), 10 * USD + 1))
    at(2026, 11, 2)
    [invoice] = invoicing.close_all()
    return invoice


@pytest.mark.sqlite_first
def test_what_commands_do_with_money_is_on_the_trail(owner: Person, at: Any, capsys: Any) -> None:
    call_command("price", "set", "m", "--input", "1", "--output", "2")
    call_command("price", "set", "m", "--input", "1", "--output", "3", "--cached-input", "0.5")
    at(2026, 10, 5)
    call_command("credit", "grant", "owner", "2.50", "--reference", "welcome", "--note", "hello")
    call_command("credit", "grant", "owner", "2.50", "--reference", "welcome", "--note", "hello")
    charge(owner, "batch_1", taken("m", date(2026, 10, 5), 10 * USD))
    call_command("ledger", "correct", "batch_charge", "batch_1", "--note", "wrong model")
    charge(owner, "batch_2", taken("m", date(2026, 10, 6), 7 * USD))
    at(2026, 11, 2)
    call_command("invoice", "close")
    invoice = Invoice.objects.get()
    call_command("invoice", "write-off", invoice.public_id, "--note", "bankrupt")
    call_command("invoice", "pay", invoice.public_id, "--note", "wire")
    once = {"input_usd": "1", "cached_input_usd": "1", "output_usd": "2", "discount": "50%"}
    again = {"input_usd": "1", "cached_input_usd": "0.5", "output_usd": "3", "discount": "50%"}
    of_month = {"month": "2026-10", "usd": "4.50"}
    assert events() == [
        ("operator", "price.created", "m", {"before": {}, "after": once}),
        ("operator", "price.created", "m", {"before": once, "after": again}),
        ("operator", "credit.created", "welcome", {"kind": "Credits given", "usd": "2.5", "note": "hello"}),
        ("operator", "ledger.corrected", "batch_charge:batch_1",
         {"usd": "10", "along": ["credit_use batch_1: 2.5 USD"], "reason": "wrong model"}),
        ("operator", "invoice.created", invoice.public_id, of_month),
        ("operator", "invoice.written_off", invoice.public_id, {**of_month, "reason": "bankrupt"}),
        ("operator", "invoice.paid", invoice.public_id, {**of_month, "reason": "wire"}),
    ]  # fmt: skip
    assert [json.loads(line)["posted"] for line in capsys.readouterr().out.splitlines() if "posted" in line] == [
        True,
        False,
    ]
    tenants = list(AuditEvent.objects.order_by("pk").values_list("tenant", flat=True))
    assert tenants == [None, None] + [owner.tenant.pk] * 5 and adds_up()


def test_months_that_are_closed_by_themselves_say_so(owner: Person, october: Invoice) -> None:
    assert [row[:3] for row in events()] == [("service", "invoice.created", october.public_id)]


def test_no_money_moves_without_its_event(owner: Person, october: Invoice, monkeypatch: Any) -> None:
    """One transaction holds both."""

    def full(*args: Any, **details: Any) -> None:
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(trail, "record", full)
    before = LedgerEntry.objects.count()
    for act in (
        lambda: customers.give(owner.tenant.pk, USD, "welcome"),
        lambda: corrections.take_back("batch_charge", "batch_1", "x"),
        lambda: invoicing.pay(october, "wire"),
        lambda: invoicing.write_off(october, "bankrupt"),
        lambda: prices.set_price("m", "1", "2"),
    ):
        with pytest.raises(DatabaseError):
            act()
    assert LedgerEntry.objects.count() == before and not Price.objects.exists()
    assert Invoice.objects.get().status == "open" and holdings(owner) == (10 * USD, 0)


def test_what_follows_something_else_is_not_taken_back(owner: Person, october: Invoice) -> None:
    invoicing.pay(october, "wire")
    for kind in (Kind.PAYMENT, Kind.ROUNDING):
        with pytest.raises(corrections.NotCorrectable, match="follows what becomes of its invoice"):
            corrections.take_back(kind, october.public_id, "x")
    [correction] = corrections.take_back("batch_charge", "batch_1", "x")
    with pytest.raises(corrections.NotCorrectable, match="A correction is not taken back"):
        corrections.take_back(Kind.CORRECTION, correction.reference, "x")
    assert adds_up()


# --- the console ------------------------------------------------------------------------------------------------------


def url(model: Any, page: str, *args: Any) -> str:
    return reverse(f"admin:billing_{model._meta.model_name}_{page}", args=args)


def asked(client: Client, model: Any, action: str, *rows: Any) -> str:
    """What the page that asks says."""
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    return text(client.post(url(model, "changelist"), data))


def text(answer: Any) -> str:
    assert answer.status_code == 200, answer.status_code
    return " ".join(html.unescape(strip_tags(answer.content.decode())).split())


@pytest.fixture
def clerk(owner: Person) -> Client:
    return signed_in(member_of("billing", email="clerk@example.com"))


def entry(kind: str) -> LedgerEntry:
    return LedgerEntry.objects.get(kind=kind)


def test_a_charge_is_taken_back_with_what_came_with_it(owner: Person, clerk: Client) -> None:
    ledger.post(owner.tenant.pk, Kind.CREDIT_GRANT, "welcome", 4 * USD)
    charge(owner, "batch_1", taken("m", DAY, 10 * USD + 1))
    charged = entry("batch_charge")
    told = asked(clerk, LedgerEntry, "take_back", charged)
    assert "In all: Batch 10.000000000001 USD." in told
    assert "owner: owes 6.000000000001 USD less (6.000000000001 → 0); has 4 USD more in credits (0 → 4);" in told
    assert "charged this month 10.000000000001 USD less" in told and "a correction is not taken back" in told
    assert holdings(owner) == (6 * USD + 1, 0), "asking does nothing"
    done = confirmed(clerk, url(LedgerEntry, "changelist"), "take_back", charged, reason="wrong model")
    assert "Take back: done to 1 ledger entry." in done
    assert holdings(owner) == (0, 4 * USD) and adds_up()
    assert ledger.charged_since(owner.tenant.pk, DAY.replace(day=1)) == 0
    assert {correction.note for correction in LedgerEntry.objects.filter(kind="correction")} == {"wrong model"}
    [(actor, action, target, told)] = events()
    assert (actor, action, target) == ("clerk@example.com", "ledger.corrected", "batch_charge:batch_1")
    assert (told["usd"], told["reason"]) == ("10.000000000001", "wrong model")
    assert AuditEvent.objects.get().tenant == owner.tenant
    again = confirmed(clerk, url(LedgerEntry, "changelist"), "take_back", charged, reason="again")
    assert "was corrected before" in again and LedgerEntry.objects.filter(kind="correction").count() == 2


def test_entries_link_what_reversed_them(owner: Person, clerk: Client) -> None:
    charge(owner, "batch_1", taken("m", DAY, USD))
    charged = entry("batch_charge")
    assert "Take back…" in clerk.get(url(LedgerEntry, "change", charged.pk)).content.decode()
    [correction] = corrections.take_back("batch_charge", "batch_1", "x")
    page = clerk.get(url(LedgerEntry, "change", charged.pk)).content.decode()
    assert f'href="{url(LedgerEntry, "change", correction.pk)}"' in page and "Take back…" not in page
    page = clerk.get(url(LedgerEntry, "change", correction.pk)).content.decode()
    assert f'href="{url(LedgerEntry, "change", charged.pk)}"' in page and "Take back…" not in page
    assert "A correction is not taken back" in asked(clerk, LedgerEntry, "take_back", correction)


def test_spent_credits_are_not_taken_back(owner: Person, clerk: Client) -> None:
    ledger.post(owner.tenant.pk, Kind.CREDIT_GRANT, "welcome", 4 * USD)
    charge(owner, "batch_1", taken("m", DAY, 3 * USD))
    told = asked(clerk, LedgerEntry, "take_back", entry("credit_grant"))
    assert "has 4 USD less in credits (1 → -3); so many credits are not left" in told
    told = confirmed(clerk, url(LedgerEntry, "changelist"), "take_back", entry("credit_grant"))
    assert "correct first what they paid for" in told and holdings(owner) == (0, USD) and not events()


def test_many_are_taken_back_each_by_itself(owner: Person, outsider: Person, clerk: Client) -> None:
    for person, batch in ((owner, "batch_1"), (owner, "batch_2"), (outsider, "batch_3")):
        charge(person, batch, taken("m", DAY, USD))
    Tenant.objects.filter(pk=outsider.tenant.pk).update(name="{these}{0} {")
    ledger.post(owner.tenant.pk, Kind.CREDIT_GRANT, "welcome", USD)
    corrections.take_back("batch_charge", "batch_2", "x")
    rows = list(LedgerEntry.objects.all())
    told = asked(clerk, LedgerEntry, "take_back", *rows)
    assert "In all: Batch 2 USD, Credits given 1 USD." in told and "{these}{0} {: owes 1 USD less (1 → 0)" in told
    assert "Left alone" in told and "was corrected before" in told
    with CaptureQueriesContext(connection) as captured:
        asked(clerk, LedgerEntry, "take_back", *rows)
    assert len(captured) <= 15
    told = confirmed(clerk, url(LedgerEntry, "changelist"), "take_back", *rows)
    assert "Take back: done to 3 ledger entries." in told
    assert holdings(owner) == holdings(outsider) == (0, 0) and adds_up()


@pytest.mark.sqlite_only
def test_what_was_written_off_is_left_alone(owner: Person, clerk: Client, october: Invoice) -> None:
    invoicing.write_off(october, "bankrupt")
    assert "invoice that was written off" in asked(clerk, LedgerEntry, "take_back", entry("batch_charge"))


def test_two_clicks_at_once_take_back_once(owner: Person, clerk: Client) -> None:
    charge(owner, "batch_1", taken("m", DAY, USD))
    charged = entry("batch_charge")
    data = {
        "action": "take_back",
        "_selected_action": [charged.pk],
        "confirmed": "yes",
        "reason": "x",
        "once": "0" * 32,
    }
    race(2, lambda _: signed_in(User.objects.get()).post(url(LedgerEntry, "changelist"), data))
    assert LedgerEntry.objects.filter(kind="correction").count() == len(events()) == 1
    assert holdings(owner) == (0, 0)


def credit(person: Person, **fields: str) -> dict[str, str]:
    form = {"tenant": str(person.tenant.pk), "kind": "credit_grant", "reference": "welcome", "amount": "2.50"}
    return form | {"note": "hello"} | fields


def test_credits_are_given_once_a_reference(owner: Person, outsider: Person, clerk: Client) -> None:
    add = url(LedgerEntry, "add")
    told, status = twice(clerk, add, credit(owner))
    assert status == 302 and "Credits of owner 0 2.5" in told and len(events()) == 1
    assert "These very credits were posted" in text(clerk.post(add, credit(owner)))
    assert "Other credits were posted" in text(clerk.post(add, credit(outsider)))
    assert "Other credits were posted" in text(clerk.post(add, credit(owner, amount="3")))
    assert twice(clerk, add, credit(owner, kind="credit_purchase", amount="0.000000000001"))[1] == 302
    assert holdings(owner) == (0, 25 * USD // 10 + 1) and holdings(outsider) == (0, 0) and adds_up()
    assert [row[:3] for row in events()] == [("clerk@example.com", "credit.created", "welcome")] * 2
    assert events()[0][3] == {"kind": "Credits given", "usd": "2.5", "note": "hello"}


def test_two_clicks_at_once_give_once(owner: Person, outsider: Person, clerk: Client) -> None:
    user = User.objects.get()
    add = url(LedgerEntry, "add")
    seen = dict(re.findall(r'name="(seen)" value="(\w+)"', clerk.post(add, credit(owner)).content.decode()))
    race(2, lambda _: signed_in(user).post(add, credit(owner) | seen))
    assert holdings(owner) == (0, 25 * USD // 10) and len(events()) == 1
    other = {0: owner, 1: outsider}
    forms = {number: credit(person, reference="both") for number, person in other.items()}
    for form in forms.values():
        form |= dict(re.findall(r'name="(seen)" value="(\w+)"', clerk.post(add, form).content.decode()))
    race(2, lambda number: signed_in(user).post(add, forms[number]))
    assert LedgerEntry.objects.filter(reference="both").count() == 1 and len(events()) == 2


@pytest.mark.sqlite_only
def test_an_invoice_is_written_off_and_paid_after_all(owner: Person, clerk: Client, october: Invoice) -> None:
    told = asked(clerk, Invoice, "write_off", october)
    assert f"owner, 2026-10: 10.00 USD, to be paid ({october.public_id})" in told and "In all 10.00 USD." in told
    act = partial(confirmed, clerk, url(Invoice, "changelist"))
    assert "Write off: done to 1 invoice." in act("write_off", october, reason="bankrupt")
    assert holdings(owner) == (0, 0) and adds_up()
    assert "It is not open" in act("write_off", october)
    assert "Mark as paid: done to 1 invoice." in act("mark_paid", october, reason="wire of 3 November")
    assert "It was paid before." in act("mark_paid", october)
    assert "Stripe is not set up" in asked(clerk, Invoice, "send", october)
    assert holdings(owner) == (0, 0) and adds_up() and entry("payment").note == "wire of 3 November"
    of_month = {"month": "2026-10", "usd": "10.00"}
    assert events("invoice.paid", "invoice.written_off") == [
        ("clerk@example.com", "invoice.written_off", october.public_id, {**of_month, "reason": "bankrupt"}),
        ("clerk@example.com", "invoice.paid", october.public_id, {**of_month, "reason": "wire of 3 November"}),
    ]


@pytest.mark.sqlite_first
def test_an_invoice_at_stripe_is_settled_there(owner: Person, clerk: Client, october: Invoice, settings: Any) -> None:
    settings.STRIPE_API_KEY = "sk_test_1"
    act = partial(confirmed, clerk, url(Invoice, "changelist"))
    assert "Send to Stripe: done to 1 invoice." in act("send", october)
    assert events("invoice.sent")[0][:3] == ("clerk@example.com", "invoice.sent", october.public_id)
    assert sending.claim() is not None, "a sender has it in hand"
    for action in ("mark_paid", "write_off"):
        assert "It is at Stripe, which may charge for it" in act(action, october)
    Invoice.objects.update(stripe_id="in_1", sent_at=timezone.now(), send_token="")
    assert "Stripe has it already" in act("send", october)
    assert Invoice.objects.get().status == "open" and holdings(owner) == (10 * USD, 0) and len(events()) == 2


def test_by_hand_or_by_stripe_never_both(owner: Person, october: Invoice, settings: Any, monkeypatch: Any) -> None:
    """A sender claims it after a clerk's deed has looked at it, and before that is done."""
    settings.STRIPE_API_KEY = "sk_test_1"
    sending.again(october)
    looked, claimed = Event(), Event()
    why_not = settlements.why_not_paid

    def slowly(invoice: Invoice) -> str | None:
        why = why_not(invoice)
        looked.set()
        claimed.wait(0.3)  # the sender has to wait: it is over without it
        return why

    def act(number: int) -> bool:
        if number:
            assert looked.wait(10)
            found = sending.claim() is not None
            claimed.set()
            return found
        settlements.pay(Invoice.objects.get(), "wire")
        return True

    monkeypatch.setattr(settlements, "why_not_paid", slowly)
    assert race(2, act) == [True, False]


def price(**fields: str) -> dict[str, str]:
    return {"model": "m", "input": "1", "cached_input": "", "output": "2", "discount": "50"} | fields


def twice(client: Client, add: str, form: dict[str, str], **more: str) -> tuple[str, int]:
    """Save, compare, save again: what the comparison said, and the answer to the second."""
    first = client.post(add, form)
    told = text(first)
    seen = re.search(r'name="seen" value="(\w+)"', first.content.decode())
    assert seen, told
    return told, client.post(add, form | {"seen": seen[1]} | more).status_code


def test_a_new_price_is_compared_with_the_one_in_force(owner: Person, clerk: Client) -> None:
    add = url(Price, "add")
    assert clerk.post(add, price()).status_code == 302, "the first one of a model"
    make_batches(owner.tenant, 2, status="in_progress", rates='{"m":[1,1,1,50]}')
    make_batches(owner.tenant, status="in_progress", model=None, rates='{"other":[1,1,1,50],"m":[1,1,1,50]}')
    make_batches(owner.tenant, status="completed", rates='{"m":[1,1,1,50]}')
    make_batches(owner.tenant, status="in_progress", model="other", rates='{"other":[1,1,1,50]}')
    told, status = twice(clerk, add, price(input="1.25", output="1"))
    assert "Nothing is stored yet" in told and "Input 1 1.25 +25.0%" in told and "Output 2 1 -50.0%" in told
    assert "3 running batches keep the price that they began with." in told and status == 302
    assert "would change" in text(clerk.post(add, price(input="1.25", output="1"))), "a second click"
    assert [(row.input, row.output) for row in Price.objects.order_by("pk")] == [(10**6, 2 * 10**6), (1_250_000, 10**6)]
    [first, second] = events("price.created")
    assert first[0] == "clerk@example.com" and first[3]["before"] == {} and second[3]["before"] == first[3]["after"]
    assert second[3]["after"]["input_usd"] == "1.25" and not AuditEvent.objects.exclude(tenant=None).exists()


@pytest.mark.sqlite_first
def test_a_slip_of_a_digit_is_asked_about(owner: Person, clerk: Client) -> None:
    add = url(Price, "add")
    clerk.post(add, price())
    for slip in ({"input": "10"}, {"output": "0.2"}, {"input": "0", "cached_input": "1"}, {"discount": "100"}):
        told, status = twice(clerk, add, price(**slip))
        assert "tick the box" in told and status == 200 and Price.objects.count() == 1, slip
    told, status = twice(clerk, add, price(input="9.9"))
    assert "tick the box" not in told and status == 302
    told, status = twice(clerk, add, price(input="101"), sure="on")
    assert "Input 9.9 101 +920.2% !" in told and status == 302 and Price.objects.count() == 3


def test_what_another_set_meanwhile_is_shown_anew(owner: Person, clerk: Client) -> None:
    add = url(Price, "add")
    clerk.post(add, price())
    first = clerk.post(add, price(input="2"))
    seen = re.search(r'name="seen" value="(\w+)"', first.content.decode())
    prices.set_price("m", "3", "2")
    assert seen and "Input 3 2 -33.3%" in text(clerk.post(add, price(input="2", seen=seen[1])))
    assert Price.objects.count() == 2


def test_two_clicks_at_once_set_a_price_once(owner: Person, clerk: Client) -> None:
    add, user = url(Price, "add"), User.objects.get()
    clerk.post(add, price())
    first = clerk.post(add, price(input="2")).content.decode()
    seen = re.findall(r'name="seen" value="(\w+)"', first)[0]
    race(2, lambda _: signed_in(user).post(add, price(input="2", seen=seen)))
    assert Price.objects.count() == 2


@pytest.mark.sqlite_only
def test_the_list_of_prices_says_what_is_in_force_and_what_is_free(owner: Person, clerk: Client) -> None:
    for number in range(30):
        prices.set_price(f"m{number}", "1", "2")
    prices.set_price("m1", "3", "4")
    for model, enabled in (("m1", True), ("free/one", True), ("gone", False)):
        Upstream.objects.create(model=model, base_url="http://up/v1", enabled=enabled)
    with CaptureQueriesContext(connection) as captured:
        page = text(clerk.get(url(Price, "changelist")))
    assert len(captured) <= 15 and "so that their batches are free: free/one." in page
    found = clerk.get(url(Price, "changelist"), {"version": "before"}).context["cl"].result_list
    assert [row.input for row in found] == [10**6]
    assert clerk.get(url(Price, "changelist"), {"version": "now"}).context["cl"].result_count == 30
    form = clerk.get(url(Price, "add"), {"model": "m1"}).content.decode()
    assert 'name="input" value="3"' in form and 'name="output" value="4"' in form
    clerk.get(url(Price, "add"), {"model": "\x00"})
    assert "is its name right?" in text(clerk.post(url(Price, "add"), price(model="typo"), follow=True))


@pytest.mark.sqlite_first
def test_no_discount_is_compared_that_can_be_none(owner: Person, clerk: Client) -> None:
    own = {"tenant": str(owner.tenant.pk), "discount": "60", "seen": "", "sure": ""}
    assert clerk.post(url(TenantDiscount, "add"), own).status_code == 302
    assert clerk.post(url(Price, "add"), price()).status_code == 302
    for discount in ("1" * 400, "101", "49", "-1"):
        for model, form in ((TenantDiscount, own), (Price, price())):
            assert "Ensure this value" in text(clerk.post(url(model, "add"), form | {"discount": discount}))


@pytest.mark.sqlite_first
def test_a_discount_is_compared_too(owner: Person, clerk: Client) -> None:
    add, form = url(TenantDiscount, "add"), {"tenant": str(owner.tenant.pk)}
    told, status = twice(clerk, add, form | {"discount": "100"})
    assert "tick the box" in told and status == 200 and not TenantDiscount.objects.exists()
    assert clerk.post(add, form | {"discount": "60"}).status_code == 302
    make_batches(owner.tenant, 2, status="in_progress", rates='{"m":[1,1,1,50]}')
    told, status = twice(clerk, add, form | {"discount": "80"})
    assert "60% 80%" in told and "2 running batches keep" in told and status == 302
    assert "would change" in text(clerk.post(add, form | {"discount": "80"}))
    assert [row[3]["after"] for row in events()] == [{"discount_percent": 60}, {"discount_percent": 80}]
    told, status = twice(clerk, add, form | {"discount": ""})
    assert status == 302 and prices.own_discount(owner.tenant.pk, timezone.now()) is None


@pytest.mark.sqlite_first
def test_limits_are_raised_by_those_whose_work_it_is(owner: Person, clerk: Client) -> None:
    add = url(Customer, "add")
    assert clerk.post(add, {"tenant": str(owner.tenant.pk), "monthly_limit": "10"}).status_code == 302
    ledger.post(owner.tenant.pk, Kind.CREDIT_GRANT, "welcome", USD)
    charge(owner, "batch_1", taken("m", DAY, 3 * USD))
    address = url(Customer, "change", owner.tenant.pk)
    with CaptureQueriesContext(connection) as captured:
        page = text(clerk.get(address))
    assert len(captured) <= 15
    assert (
        "Credits left, USD: 0" in page and "Owed, USD: 2" in page and "Charged this month (UTC), USD: 3; 7 of" in page
    )
    assert clerk.post(address, {"monthly_limit": "25.5"}).status_code == 302
    assert Customer.objects.get().monthly_limit == 255 * USD // 10
    assert [row[3]["after"] for row in events("customer.changed")] == [
        {"monthly_limit_usd": "10"},
        {"monthly_limit_usd": "25.5"},
    ]
    shift = signed_in(member_of("operations", email="shift@example.com"))
    form = {"name": "owner", "plan": "shared", "batch_limit": "50", "weight": "1", "reserved_slots": "0"}
    assert shift.post(f"/admin/tenants/tenant/{owner.tenant.pk}/change/", form).status_code == 302
    assert Tenant.objects.get().batch_limit == 50
    assert events("tenant.changed")[0][:3] == ("shift@example.com", "tenant.changed", "owner")
    assert shift.post(address, {"monthly_limit": "99"}).status_code == 403


LOOKERS = {
    LedgerEntry: ("take_back",),
    Invoice: ("mark_paid", "write_off", "send"),
}


@pytest.mark.sqlite_only
def test_who_may_only_look_changes_nothing(owner: Person, october: Invoice) -> None:
    """No button, and the POST is refused: for each permission by itself."""
    may: dict[str, set[Any]] = {
        "correct_ledgerentry": {"take_back"}, "change_invoice": {"mark_paid", "write_off", "send"},
        "add_ledgerentry": {LedgerEntry}, "add_price": {Price}, "add_tenantdiscount": {TenantDiscount},
        "change_customer": {Customer},
    }  # fmt: skip
    looks = [f"view_{model._meta.model_name}" for model in (LedgerEntry, Invoice, Price, TenantDiscount, Customer)]
    Customer.objects.create(tenant=owner.tenant)
    for permission, can in may.items():
        client = staff(f"{permission}@example.com", *looks, permission)
        for model, actions in LOOKERS.items():
            row = model._default_manager.all()[0]
            page = client.get(url(model, "change", row.pk)).content.decode()
            for action in actions:
                if action == "send":
                    continue  # Stripe is not set up
                assert (f'value="{action}"' in page) == (action in can), (permission, action)
                assert ("?" in asked_or_not(client, model, action, row)) == (action in can), (permission, action)
        for model in (LedgerEntry, Price, TenantDiscount, Customer):
            assert client.get(url(model, "add")).status_code == (200 if model in can else 403)
            assert client.post(url(model, "add"), {}).status_code == (200 if model in can else 403)
    assert LedgerEntry.objects.count() == 1 + 1 and Invoice.objects.get().status == "open"


def asked_or_not(client: Client, model: Any, action: str, row: Any) -> str:
    """The question's title, empty where nothing is asked."""
    answer = client.post(url(model, "changelist"), {"action": action, "_selected_action": [row.pk]})
    return str((answer.context or {}).get("title", "")) if answer.status_code == 200 else ""


HOSTILE = [
    "a\x00b", "1e400", "NaN", "-Infinity", "-1", "0", f"{10**30}", "9" * 5_000, "1,5", "１２", "0x10", "1_000", "\ud800",
    "\r\n", "\u202e", "{these}", "%s", "1.0000000000001", " ", "",
]  # fmt: skip


def body(form: dict[str, str]) -> str:
    """As no browser would send it: a lone surrogate's bytes as they are."""
    return "&".join(f"{name}={quote_from_bytes(value.encode(errors='surrogatepass'))}" for name, value in form.items())


def send(client: Client, address: str, form: dict[str, str]) -> Any:
    return client.post(address, body(form), content_type="application/x-www-form-urlencoded")


@pytest.mark.sqlite_only
def test_no_form_falls_over(owner: Person, clerk: Client) -> None:
    """Every hostile text in every field by itself; then over HTTP, a few of them."""
    Customer.objects.create(tenant=owner.tenant)
    prices.set_price("m", "1", "2")
    tenant = {"tenant": str(owner.tenant.pk)}
    forms: list[tuple[Any, str, dict[str, str]]] = [
        (LedgerEntry, url(LedgerEntry, "add"), credit(owner)),
        (Price, url(Price, "add"), price(input="1.5") | {"seen": "", "sure": ""}),
        (TenantDiscount, url(TenantDiscount, "add"), tenant | {"discount": "60", "seen": "", "sure": ""}),
        (Customer, url(Customer, "change", owner.tenant.pk), {"monthly_limit": "5", "prepaid": ""}),
    ]
    request = RequestFactory().get("/")
    request.user = User.objects.get()
    for model, address, form in forms:
        made = admin.site.get_model_admin(model).get_form(request, None)
        for name in form:
            for value in [*HOSTILE, *naughty_strings()[::40]]:
                with transaction.atomic():
                    made(QueryDict(body(form | {name: value}))).is_valid()
        for number, value in enumerate(HOSTILE[:13]):
            answer = send(clerk, address, form | {[*form][number % len(form)]: value})
            assert answer.status_code in (200, 302), (address, value)
    assert adds_up() and all(len(note) <= 200 for note in LedgerEntry.objects.values_list("note", flat=True))


@pytest.mark.sqlite_only
def test_a_note_is_printable_and_searches_take_anything(owner: Person, clerk: Client, october: Invoice) -> None:
    act = {
        "action": "take_back",
        "confirmed": "yes",
        "once": "0" * 32,
        "_selected_action": str(entry("batch_charge").pk),
    }
    for reason in ("a\x00b", "\x07", "\u202e", "x" * 201, " "):
        answer = send(clerk, url(LedgerEntry, "changelist"), act | {"reason": reason})
        assert answer.status_code == 200 and "errorlist" in answer.content.decode(), reason
    assert not LedgerEntry.objects.filter(kind="correction").exists()
    for model in (LedgerEntry, Invoice, Price, TenantDiscount, Customer):
        for value in ("\x00", "\ud800", "9" * 5_000):
            assert clerk.get(f"{url(model, 'changelist')}?{body({'q': value})}").status_code in (200, 302), model
