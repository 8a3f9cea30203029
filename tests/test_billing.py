"""What a tenant is told of its money: alerts, once a month each; GET /v1/billing; preflights. And who sets its limits."""

import json
import re
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from batches import alerting, enqueued, reserving, sweeping
from batches.core import webhooks
from batches.models import Batch, WebhookDelivery
from billing import ledger, money, prices, spending
from billing.ledger import Account, Kind
from billing.models import Customer, LedgerEntry, TenantDiscount
from billing.spending import Alerts
from tenants import clock
from tenants.models import Tenant
from tests.conftest import Person
from tests.hooks import deliver, endpoint
from tests.receiver import Receiver
from tests.test_admin import staff
from tests.test_api import error
from tests.test_engine import Work, numbered
from tests.test_operator import manage, refusal  # noqa: F401 - manage is a fixture
from tests.test_pause import in_hand
from tests.test_preflight import looked_at
from tests.test_spending import USD, limited, prepaid, start
from tests.test_web import make_batches
from tests.threads import ThreadPoolExecutor
from tests.witness import Witness

pytestmark = pytest.mark.postgres_first

RACERS = 6
ON_POSTGRESQL = connection.vendor == "postgresql"  # one query more: it is asked for the time


@pytest.fixture
def made(owner: Person, receiver: Receiver) -> dict[str, Any]:
    """An endpoint for every type of event."""
    return endpoint(owner, receiver.url)


def told() -> list[str]:
    """The subjects of the alerts so far, in order."""
    rows = WebhookDelivery.objects.filter(event_type=webhooks.SPENDING).order_by("pk")
    return [subject.rpartition("_")[2] for subject in rows.values_list("subject", flat=True)]


def running(person: Person, cost: int) -> Batch:
    """A batch that runs, and costs so much so far."""
    Batch.objects.filter(tenant=person.tenant).update(cost=0, status="completed")
    [batch] = make_batches(person.tenant, status="in_progress", cost=cost)
    return batch


# --- alerts -----------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_first
def test_an_alert_for_each_share_once_a_month(
    owner: Person, outsider: Person, made: dict[str, Any], monkeypatch: Any
) -> None:
    limited(owner, 100 * USD)
    for cost, so_far in ((49, []), (50, ["50"]), (79, ["50"]), (100, ["50", "80", "100"]), (500, ["50", "80", "100"])):
        running(owner, cost * USD)
        for _ in range(2):
            sweeping.sweep()
        assert told() == so_far
    running(outsider, 500 * USD)
    sweeping.sweep()
    assert len(told()) == 3
    later = (clock.now() + timedelta(days=32)).date().replace(day=1)
    monkeypatch.setattr(clock, "month", lambda: later)
    sweeping.sweep()
    assert told() == ["50", "80", "100"] * 2


@pytest.mark.sqlite_only
def test_a_charge_alerts_without_waiting_for_a_sweep(
    owner: Person, witness: Witness, made: dict[str, Any], work: Work
) -> None:
    limited(owner, USD)
    first = start(owner)
    work()
    assert told() == []
    start(owner)
    first.refresh_from_db()
    Customer.objects.update(monthly_limit=3 * first.cost)
    work()
    assert told() == ["50"]  # two of three: the batch that is being charged counts once


@pytest.mark.sqlite_only
def test_the_event_says_which_and_the_sdk_takes_it(owner: Person, made: dict[str, Any], receiver: Receiver) -> None:
    openai = pytest.importorskip("openai")
    limited(owner, USD)
    running(owner, USD // 2)
    alerting.look_around()
    deliver()
    (received,) = receiver.received
    with openai.OpenAI(api_key="x") as client:
        event = client.webhooks.unwrap(received.body, received.headers, secret=made["signing_secret"])
    month = f"{clock.month():%Y-%m}"
    assert event.type == "billing.spending_alert"
    data = {"id": f"spending_{month}_50", "month": month, "percent": 50}
    assert json.loads(received.body)["data"] == data
    (shown,) = owner.get(f"/v1/webhook_endpoints/{made['id']}/deliveries").json()["data"]
    assert (shown["type"], shown["data"]) == ("billing.spending_alert", data)


@pytest.mark.sqlite_only
def test_an_endpoint_may_want_alerts_alone(owner: Person, receiver: Receiver) -> None:
    endpoint(owner, receiver.url, event_types=["billing.spending_alert"])
    limited(owner, USD)
    running(owner, USD)
    alerting.look_around()
    assert told() == ["50", "80", "100"] and WebhookDelivery.objects.count() == 3


def look_at_once(owner: Person) -> None:
    limited(owner, 100 * USD)
    running(owner, 60 * USD)
    gate = threading.Barrier(RACERS)

    def look(_: int) -> None:
        gate.wait(30)
        try:
            alerting.look(owner.tenant.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(RACERS) as pool:
        list(pool.map(look, range(RACERS)))


def read_before_any_marks(monkeypatch: Any) -> None:
    everybody, alerts = threading.Barrier(RACERS), spending.alerts

    def read(tenant: int) -> Alerts | None:
        found = alerts(tenant)
        everybody.wait(30)
        return found

    monkeypatch.setattr(spending, "alerts", read)


def test_six_who_look_at_once_alert_once(owner: Person, made: dict[str, Any], monkeypatch: Any) -> None:
    read_before_any_marks(monkeypatch)
    look_at_once(owner)
    assert told() == ["50"]


def test_without_comparing_each_would(owner: Person, made: dict[str, Any], monkeypatch: Any) -> None:
    read_before_any_marks(monkeypatch)
    monkeypatch.setattr(Alerts, "mark", lambda alerts, percent: True)
    look_at_once(owner)
    assert told() == ["50"] * RACERS


@pytest.mark.sqlite_only
def test_a_new_limit_is_told_of_anew(owner: Person, made: dict[str, Any], manage: Any) -> None:  # noqa: F811
    manage("customer", "set", "owner", "--monthly-limit", "100")
    running(owner, 60 * USD)
    alerting.look_around()
    manage("customer", "set", "owner", "--prepaid")
    alerting.look_around()
    assert told() == ["50"]
    manage("customer", "set", "owner", "--monthly-limit", "75")
    alerting.look_around()
    assert told() == ["50", "50", "80"]


def test_tenants_without_a_limit_cost_the_sweep_a_query(owner: Person, django_assert_num_queries: Any) -> None:
    Customer.objects.create(tenant=owner.tenant, prepaid=True)
    running(owner, USD)
    with django_assert_num_queries(1 + ON_POSTGRESQL):
        alerting.look_around()
    with django_assert_num_queries(1):
        alerting.look(owner.tenant.pk)


# --- GET /v1/billing --------------------------------------------------------------------------------------------------


def test_a_tenant_is_told_its_sums(
    owner: Person, outsider: Person, witness: Witness, work: Work, django_assert_num_queries: Any
) -> None:
    month = f"{clock.month():%Y-%m}"
    nothing = {
        "object": "billing",
        "currency": "usd",
        "prepaid": False,
        "credits": {"balance_usd": "0", "reserved_usd": "0", "available_usd": "0"},
        "month": {
            "month": month, "charged_usd": "0", "running_usd": "0", "reserved_usd": "0", "limit_usd": None,
            "available_usd": None, "alerted_percent": 0,
        },
        "payment": {"can_pay": False, "past_due_since": None},
    }  # fmt: skip
    assert owner.get("/v1/billing").json() == nothing
    assert not Customer.objects.exists()
    prepaid(owner, USD)
    Customer.objects.update(monthly_limit=USD // 2, can_pay=True)
    done = start(owner)
    work()
    done.refresh_from_db()
    hand = in_hand(owner, 4)
    hand.hand_in(1)
    with django_assert_num_queries(6 + ON_POSTGRESQL):
        found = owner.get("/v1/billing").json()
    cost, held = int(hand.batch.cost), int(hand.batch.reserved)
    assert found["credits"] == {
        "balance_usd": money.usd(USD - int(done.cost)),
        "reserved_usd": money.usd(held),
        "available_usd": money.usd(USD - int(done.cost) - held),
    }
    assert found["month"] == {
        "month": month,
        "charged_usd": money.usd(int(done.cost)),
        "running_usd": money.usd(cost),
        "reserved_usd": money.usd(held),
        "limit_usd": "0.5",
        "available_usd": money.usd(USD // 2 - int(done.cost) - held),
        "alerted_percent": 0,
    }
    assert found["payment"] == {"can_pay": True, "past_due_since": None}
    assert outsider.get("/v1/billing").json() == nothing
    assert error(owner.get("/v1/billing?month=1"), 400) == "unsupported_parameter"
    assert error(owner.post("/v1/billing"), 405) == "method_not_allowed"


# --- preflights -------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_only
def test_a_preflight_says_what_would_refuse_the_batch(owner: Person, witness: Witness) -> None:
    def refused(**fields: str) -> str | None:
        found = looked_at(owner, numbered(8), **fields)
        assert found["valid"] is True
        return found["refused"] and str(found["refused"]["code"])

    assert refused() is None
    batch = start(owner)
    most, tokens = int(batch.reserved), enqueued.tokens(owner.tenant.pk)
    Tenant.objects.update(enqueued_token_limit=2 * tokens - 1)
    assert refused() == "token_limit_exceeded"
    Tenant.objects.update(enqueued_token_limit=2 * tokens)
    prepaid(owner, 2 * most - 1)
    assert refused() == "insufficient_credits"
    Customer.objects.update(prepaid=False, monthly_limit=2 * most - 1)
    assert refused() == "spending_limit_exceeded"
    Customer.objects.update(monthly_limit=2 * most)
    assert refused() is None
    Customer.objects.update(past_due_since=clock.now())
    assert refused() == "payment_required"
    assert looked_at(owner, [b"{"])["refused"] is None  # it is not valid anyway


@pytest.mark.sqlite_only
def test_a_preflight_of_a_free_model_when_nothing_is_left(owner: Person, witness: Witness) -> None:
    prices.set_price("witness", "0", "0")
    prepaid(owner, 0)
    found = looked_at(owner, numbered(1))
    assert found["refused"]["code"] == error(owner.submit(numbered(1)), 402) == "insufficient_credits"


# --- operators --------------------------------------------------------------------------------------------------------


def test_a_customer_is_set_and_shown(owner: Person, manage: Any) -> None:  # noqa: F811
    [shown] = manage("customer", "set", "owner", "--prepaid", "--monthly-limit", "12.50", "--discount", "60")
    assert shown == {
        "tenant": "owner", "prepaid": True, "monthly_limit_usd": "12.5", "discount": "0.6", "credits_usd": "0",
        "owed_usd": "0", "charged_this_month_usd": "0", "can_pay": False, "past_due_since": None,
    }  # fmt: skip
    assert manage("customer", "set", "owner") == manage("customer", "show", "owner") == [shown]
    [shown] = manage("customer", "set", "owner", "--postpaid", "--monthly-limit", "none", "--discount", "none")
    assert (shown["prepaid"], shown["monthly_limit_usd"], shown["discount"]) == (False, None, None)
    assert TenantDiscount.objects.count() == 2
    assert "no tenant" in refusal("customer", "show", "nobody")


@pytest.mark.sqlite_only
@pytest.mark.parametrize("wrong", ["0", "-5", "1e3", "nan", "1,50", "1000001", "0.0000000000001", "", "٣", "none "])
def test_sums_that_are_none(owner: Person, wrong: str) -> None:
    with pytest.raises(CommandError):
        call_command("customer", "set", "owner", f"--monthly-limit={wrong}")
    if not wrong.startswith("-"):
        assert refusal("credit", "grant", "owner", wrong, "--reference", "r")
    assert not LedgerEntry.objects.exists() and not Customer.objects.exists()


@pytest.mark.sqlite_only
@pytest.mark.parametrize("wrong", ["49", "101", "60.5", "all"])
def test_discounts_that_are_none(owner: Person, wrong: str) -> None:
    with pytest.raises(CommandError, match="not a whole number from 50 to 100"):
        call_command("customer", "set", "owner", "--prepaid", "--discount", wrong)
    assert not Customer.objects.exists() and not TenantDiscount.objects.exists()


def test_credits_are_given_once_a_reference(owner: Person, outsider: Person, manage: Any) -> None:  # noqa: F811
    for posted in (True, False):
        [shown] = manage("credit", "grant", "owner", "25", "--reference", "welcome", "--note", "for a start")
        assert shown == {"tenant": "owner", "reference": "welcome", "posted": posted, "credits_usd": "25"}
    [paid] = manage("credit", "grant", "owner", "10", "--reference", "welcome", "--paid")
    assert (paid["posted"], paid["credits_usd"]) == (True, "35")
    assert "reference" in refusal("credit", "grant", "owner", "26", "--reference", "welcome")
    assert "reference" in refusal("credit", "grant", "outsider", "25", "--reference", "welcome")
    kinds = LedgerEntry.objects.order_by("pk").values_list("kind", "note")
    assert list(kinds) == [(Kind.CREDIT_GRANT, "for a start"), (Kind.CREDIT_PURCHASE, "")]
    assert ledger.balance(owner.tenant.pk, Account.CASH) == -10 * USD
    for wrong in ("", " ", "a\nb", "x" * 101):
        assert "reference" in refusal("credit", "grant", "owner", "1", "--reference", wrong)


@pytest.mark.sqlite_only
def test_staff_sets_limits_and_gives_credits(owner: Person) -> None:
    root = staff("root@example.com", is_superuser=True)
    Customer.objects.create(tenant=owner.tenant, alerted_month=clock.month(), alerted_percent=80, stripe_id="cus_1")
    page = f"/admin/billing/customer/{owner.tenant.pk}/change/"
    assert root.post(page, {"prepaid": "on", "monthly_limit": "12.50"}).status_code == 302
    customer = Customer.objects.get()
    assert (customer.prepaid, customer.monthly_limit, customer.alerted_percent) == (True, 25 * USD // 2, 0)
    assert customer.stripe_id == "cus_1"
    assert b'value="12.5"' in root.get(page).content
    assert b"Write USD" in root.post(page, {"monthly_limit": "12,50"}).content
    entry = {"tenant": owner.tenant.pk, "kind": "credit_grant", "reference": "welcome", "amount": "5", "note": "hello"}
    asked = root.post("/admin/billing/ledgerentry/add/", entry).content.decode()
    seen = {"seen": re.findall(r'name="seen" value="(\w+)"', asked)[0]}
    assert root.post("/admin/billing/ledgerentry/add/", entry | seen).status_code == 302
    assert ledger.balance(owner.tenant.pk, Account.CREDITS) == 5 * USD
    for wrong in (
        {},
        {"kind": "batch_charge"},
        {"reference": "b", "amount": "-1"},
        {"reference": "r" * 81},
    ):  # the first: it is posted already
        assert root.post("/admin/billing/ledgerentry/add/", entry | wrong).status_code == 200
    assert LedgerEntry.objects.count() == 1
    viewer = staff("viewer@example.com", "view_customer", "view_ledgerentry")
    assert viewer.post(page, {"monthly_limit": ""}).status_code == 403
    assert viewer.post("/admin/billing/ledgerentry/add/", entry).status_code == 403
    assert reserving.running(owner.tenant.pk) == (0, 0)
