"""Prepaid credits and the limit of a month: reserved at the start, never spent twice however batches race, and released."""

import threading
from contextlib import nullcontext
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from batches import lifecycle, reserving, sweeping, tasks, validation
from batches.core.bounds import Work as Asked
from batches.core.states import Status
from batches.engine import leases
from batches.models import Batch, Slice, Upstream
from billing import ledger, money, prices, spending
from billing.ledger import Account, Kind
from billing.models import Customer
from billing.spending import Funds
from tenants import admission, clock
from tenants.errors import Refused
from tenants.models import Tenant
from tests.conftest import Person, step, validate_at_once
from tests.sdk import client, create, jsonl  # noqa: F401 - client is a fixture
from tests.test_api import error
from tests.test_engine import Work, numbered
from tests.test_pause import in_hand, paused
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first

LINES, RACERS, START = 8, 10, 3
TINY = {"max_cost_usd": "0.000000000001"}
USD = 10**12


def submit(owner: Person, **fields: str) -> Batch:
    answer = owner.submit(numbered(LINES), **fields)
    assert answer.status_code == 200, answer.content
    return Batch.objects.get(public_id=answer.json()["id"])


def start(owner: Person, **fields: str) -> Batch:
    batch = submit(owner, **fields)
    tasks.validate(batch.pk)
    batch.refresh_from_db()
    return batch


def prepaid(person: Person, pico: int, reference: str = "pi_1") -> None:
    Customer.objects.update_or_create(tenant=person.tenant, defaults={"prepaid": True})
    if pico:
        ledger.post(person.tenant.pk, Kind.CREDIT_PURCHASE, reference, pico)


def limited(person: Person, pico: int) -> None:
    Customer.objects.update_or_create(tenant=person.tenant, defaults={"monthly_limit": pico})


def left(person: Person) -> int:
    return ledger.balance(person.tenant.pk, Account.CREDITS)


def fault(owner: Person, batch: Batch) -> dict[str, Any]:
    (found,) = owner.batch(batch.public_id)["errors"]["data"]
    assert owner.batch(batch.public_id)["status"] == "failed"
    return dict(found)


@pytest.fixture
def reserved(owner: Person, witness: Witness) -> int:
    """What a batch of `submit` reserves."""
    batch = start(owner)
    assert batch.status == Status.IN_PROGRESS and batch.reserved > 0
    lifecycle.cancel(batch)
    step("finalizing", tasks.finalize)
    return int(batch.reserved)


# --- racing -----------------------------------------------------------------------------------------------------------


def started(owner: Person) -> int:
    """How many of ten batches that are validated at once start."""
    Tenant.objects.update(batch_limit=RACERS)
    batches = [submit(owner) for _ in range(RACERS)]
    return validate_at_once(batches).count("in_progress")


def covers(owner: Person, how: str, pico: int) -> None:
    prepaid(owner, pico) if how == "credits" else limited(owner, pico)


@pytest.mark.parametrize("how", ["credits", "limit"])
def test_ten_racing_batches_start_as_far_as_it_goes(owner: Person, reserved: int, how: str) -> None:
    covers(owner, how, START * reserved + reserved // 2)
    assert started(owner) == START
    assert reserving.running(owner.tenant.pk).held == START * reserved


@pytest.mark.parametrize("how", ["credits", "limit"])
def test_without_the_lock_all_would(owner: Person, reserved: int, how: str, monkeypatch: Any) -> None:
    covers(owner, how, START * reserved + reserved // 2)
    counted, count = threading.Barrier(RACERS), reserving.running

    def all_count_first(*arguments: Any) -> Any:
        found = count(*arguments)
        counted.wait(30)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(reserving, "check_room", lambda tenant: None)  # of the submissions: these are not raced
        patched.setattr(admission, "lock", lambda tenant: Tenant.objects.get(pk=tenant))
        patched.setattr(reserving, "running", all_count_first)
        if connection.vendor == "sqlite":  # there the lock is the transaction itself
            patched.setattr(validation, "transaction", SimpleNamespace(atomic=nullcontext))
        assert started(owner) == RACERS


# --- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_only
def test_the_reservation_is_the_most_that_a_preflight_names(owner: Person, witness: Witness) -> None:
    prices.set_price("other", "3.00", "5.00", "9.00")  # cached input dearer than fresh
    lines = [request_line("a", max_tokens=7), request_line("b", n=3), request_line("c", pad=500, max_tokens=100)]
    file = SimpleUploadedFile("a.jsonl", jsonl(lines))
    asked = owner.post("/v1/batch/validate", {"file": file}).json()
    batch = Batch.objects.get(public_id=owner.submit(lines).json()["id"])
    assert owner.batch(batch.public_id)["cost"]["reserved_usd"] is None
    tasks.validate(batch.pk)
    assert owner.batch(batch.public_id)["cost"]["reserved_usd"] == asked["cost"]["high_usd"]


@pytest.mark.sqlite_first
def test_a_cap_bounds_it_for_all_lines_but_those_in_flight(owner: Person, witness: Witness) -> None:
    """Else a cap of nothing would start anything."""
    few, many = ([request_line(f"a{n}", max_tokens=10) for n in range(lines)] for lines in (256, 300))
    found = []
    for lines, fields in ((few, TINY), (few, {}), (many, TINY), (many, {})):
        batch = Batch.objects.get(public_id=owner.submit(lines, **fields).json()["id"])
        tasks.validate(batch.pk)
        batch.refresh_from_db()
        found.append(batch.reserved)
    assert found[0] == found[1] < found[2] < found[3]


@pytest.mark.sqlite_first
@pytest.mark.parametrize(("how", "code"), [("credits", "insufficient_credits"), ("limit", "spending_limit_exceeded")])
def test_what_is_not_covered_fails_with_the_numbers_and_starts_when_it_is(
    owner: Person, outsider: Person, reserved: int, how: str, code: str, work: Work
) -> None:
    covers(owner, how, reserved - 1)
    refused = start(owner)
    found = fault(owner, refused)
    assert (found["code"], found["line"], found["param"]) == (code, None, None)
    assert money.usd(reserved) in found["message"] and money.usd(reserved - 1) in found["message"]
    assert "limits of output" in found["message"]
    assert not Slice.objects.filter(batch=refused).exists()
    for answer in (
        owner.get(f"/v1/batch/{refused.public_id}/output"),
        owner.post(f"/v1/batch/{refused.public_id}/retry"),
    ):
        assert error(answer, 409) == "batch_failed"
        assert "not valid" not in answer.json()["error"]["message"]  # the file was good
    assert start(outsider).status == Status.IN_PROGRESS
    work()
    spent = reserving.running(owner.tenant.pk)
    assert spent == (0, 0)


def test_a_reservation_ends_with_its_batch_and_the_rest_is_free_again(owner: Person, reserved: int, work: Work) -> None:
    prepaid(owner, 2 * reserved)
    first, second = start(owner), start(owner)
    assert {first.status, second.status} == {Status.IN_PROGRESS}
    answer = owner.submit(numbered(LINES))
    assert error(answer, 402) == "insufficient_credits"
    assert answer.json()["error"]["message"].endswith("Wait until others have ended; or get more credits.")
    lifecycle.cancel(second)
    step("finalizing", tasks.finalize)
    third = start(owner)
    work()
    costs = Batch.objects.filter(pk__in=[first.pk, third.pk]).values_list("status", "cost")
    assert {status for status, _ in costs} == {"completed"}
    assert left(owner) == 2 * reserved - sum(cost for _, cost in costs) > 0
    assert ledger.balance(owner.tenant.pk, Account.RECEIVABLE) == 0


@pytest.mark.sqlite_only
def test_what_is_charged_this_month_counts_and_what_is_reserved(owner: Person, reserved: int, work: Work) -> None:
    first = start(owner)
    work()
    first.refresh_from_db()
    limited(owner, int(first.cost) + 2 * reserved)
    assert [start(owner).status for _ in range(2)] == [Status.IN_PROGRESS] * 2
    answer = owner.submit(numbered(LINES))
    assert error(answer, 402) == "spending_limit_exceeded"
    assert answer.json()["error"]["type"] == "billing_error"
    assert f"{money.usd(int(first.cost))} charged" in answer.json()["error"]["message"]


@pytest.mark.sqlite_only
def test_a_month_begins_anew(owner: Person, reserved: int, work: Work, monkeypatch: Any) -> None:
    start(owner)
    work()
    limited(owner, reserved)
    assert start(owner).status == Status.FAILED
    later = clock.now() + timedelta(days=32)
    monkeypatch.setattr(clock, "month", lambda: later.date().replace(day=1))
    assert start(owner).status == Status.IN_PROGRESS


@pytest.mark.sqlite_only
def test_a_free_model_needs_no_credits(owner: Person, witness: Witness) -> None:
    prices.set_price("witness", "0", "0")
    prepaid(owner, 1)
    assert [start(owner).status for _ in range(2)] == [Status.IN_PROGRESS] * 2


def test_a_line_that_asks_for_everything_overflows_nothing(owner: Person, witness: Witness) -> None:
    prices.set_price("witness", "10000", "10000")
    lines = [request_line(str(n), custom_id=f"line:{n}", max_tokens=10**7 - 1) for n in range(200)]
    batch = Batch.objects.get(public_id=owner.submit(lines).json()["id"])
    tasks.validate(batch.pk)
    batch.refresh_from_db()
    assert (batch.status, batch.reserved) == (Status.IN_PROGRESS, reserving.GREATEST)
    prepaid(owner, USD)
    assert error(owner.submit(lines), 402) == "insufficient_credits"


def test_a_tenant_without_limits_is_locked_nowhere(owner: Person, witness: Witness, monkeypatch: Any) -> None:
    Customer.objects.create(tenant=owner.tenant)
    batch = submit(owner)

    def never(tenant: int) -> Any:
        raise AssertionError("locked")

    monkeypatch.setattr(admission, "lock", never)
    tasks.validate(batch.pk)
    batch.refresh_from_db()
    assert batch.status == Status.IN_PROGRESS


# --- submitting -------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_only
def test_whoever_owes_is_refused_and_what_runs_goes_on(
    owner: Person, outsider: Person, witness: Witness, work: Work
) -> None:
    first = paused(owner)
    Customer.objects.create(tenant=owner.tenant, past_due_since=clock.now())
    assert error(owner.submit(numbered(1)), 402) == "payment_required"
    assert outsider.submit(numbered(1)).status_code == 200
    assert owner.post(f"/v1/batch/{first.public_id}/resume", {"max_cost_usd": "1"}).status_code == 200
    work()
    assert owner.batch(first.public_id)["status"] == "completed"


@pytest.mark.sqlite_only
def test_retries_are_new_batches(owner: Person, reserved: int) -> None:
    ended = Batch.objects.get()
    Customer.objects.create(tenant=owner.tenant, past_due_since=clock.now())
    assert error(owner.post(f"/v1/batch/{ended.public_id}/retry"), 402) == "payment_required"
    Customer.objects.update(past_due_since=None, prepaid=True)
    assert error(owner.post(f"/v1/batch/{ended.public_id}/retry"), 402) == "insufficient_credits"


@pytest.mark.sqlite_only
def test_openais_sdk_knows_a_402_and_asks_once(client: Any, owner: Person, witness: Witness) -> None:  # noqa: F811
    prepaid(owner, 0)
    with pytest.raises(openai.APIStatusError) as refused:
        create(client.with_options(max_retries=2), numbered(1))
    assert (refused.value.status_code, refused.value.code) == (402, "insufficient_credits")
    assert refused.value.type == "billing_error"
    assert not Batch.objects.exists()


# --- running ----------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_first
@pytest.mark.parametrize(
    ("how", "reason", "code"),
    [
        ("credits", "insufficient_credits", "insufficient_credits"),
        ("limit", "spending_limit", "spending_limit_exceeded"),
    ],
)
def test_a_batch_stops_at_what_is_reserved_and_goes_on_when_there_is_more(
    owner: Person, witness: Witness, how: str, reason: str, code: str, work: Work
) -> None:
    hand = in_hand(owner, 10)
    reserved = hand.batch.reserved
    covers(owner, how, reserved)
    Batch.objects.update(cost=reserved - 1)  # so far, on estimates that fell short
    hand.hand_in(1)
    assert (hand.batch.paused_reason, hand.batch.cost > reserved) == (reason, True)
    leases.release(hand.held.claim, {})
    shown = owner.batch(hand.batch.public_id)
    assert (shown["status"], shown["paused_reason"]) == ("in_progress", reason)
    assert shown["waiting_reason"]["code"] == "paused" and "by itself" in shown["waiting_reason"]["message"]
    sweeping.sweep()
    assert owner.batch(hand.batch.public_id)["paused_reason"] == reason
    answer = owner.post(f"/v1/batch/{hand.batch.public_id}/resume")
    assert error(answer, 402) == code
    covers_more(owner, how, 100 * reserved)
    sweeping.sweep()
    hand.batch.refresh_from_db()
    assert hand.batch.paused_reason == "" and hand.batch.reserved > hand.batch.cost
    work()
    assert owner.batch(hand.batch.public_id)["status"] == "completed"


@pytest.mark.sqlite_first
def test_a_batch_that_waits_says_what_is_lacking_now(owner: Person, witness: Witness) -> None:
    hand = in_hand(owner, 10)
    reserved = hand.batch.reserved
    covers(owner, "credits", reserved)
    covers(owner, "limit", reserved)
    Batch.objects.update(cost=reserved - 1)
    hand.hand_in(1)
    leases.release(hand.held.claim, {})
    assert owner.batch(hand.batch.public_id)["paused_reason"] == "insufficient_credits"
    covers_more(owner, "credits", 100 * reserved)
    sweeping.sweep()
    shown = owner.batch(hand.batch.public_id)
    assert shown["paused_reason"] == "spending_limit" and "limit of the month" in shown["waiting_reason"]["message"]
    answer = owner.post(f"/v1/batch/{hand.batch.public_id}/resume")
    assert error(answer, 402) == "spending_limit_exceeded"
    assert "resume it with a max_cost_usd" in answer.json()["error"]["message"]  # its lines can't be changed any more
    lifecycle.cancel(hand.batch)
    sweeping.sweep()
    assert owner.batch(hand.batch.public_id)["waiting_reason"] is None


@pytest.mark.sqlite_first
def test_an_estimate_that_falls_short_delays_and_no_more(
    owner: Person, witness: Witness, small_groups: None, work: Work
) -> None:
    witness.configure(tokens=1500, latency_ms=[2, 2])
    Upstream.objects.update(max_in_flight=4)  # few lines beyond what is reserved, which is the cost of some 48
    prepaid(owner, USD)
    lines = [request_line(f"a{n}", custom_id=f"line:{n}", max_tokens=600) for n in range(120)]
    batch = Batch.objects.get(public_id=owner.submit(lines).json()["id"])
    work()
    batch.refresh_from_db()
    assert batch.paused_reason == "insufficient_credits" and batch.completed < 120
    sweeping.sweep()
    work()
    batch.refresh_from_db()
    assert (batch.status, batch.completed) == ("completed", 120)
    assert left(owner) == USD - batch.cost and ledger.balance(owner.tenant.pk, Account.RECEIVABLE) == 0


def test_two_that_wait_go_on_as_far_as_it_goes(owner: Person, witness: Witness) -> None:
    waiting = [start(owner) for _ in range(3)]
    prepaid(owner, USD)
    reserved = int(waiting[0].reserved)
    stopped = {"paused_reason": "insufficient_credits", "cost": reserved, "completed": LINES // 2}
    Batch.objects.filter(status=Status.IN_PROGRESS).update(**stopped)
    with transaction.atomic():
        wanted = reserving.again(waiting[0], {})["reserved"]
    assert 2 * reserved < wanted < 3 * reserved
    Batch.objects.filter(pk=waiting[2].pk).update(max_cost=reserved)  # it has reached its own cap meanwhile
    ledger.post(owner.tenant.pk, Kind.CREDIT_USE, "spent", USD - wanted - 2 * reserved)
    for _ in range(2):
        sweeping.sweep()
        reasons = (
            Batch.objects.filter(pk__in=[batch.pk for batch in waiting]).order_by("pk").values_list("paused_reason")
        )
        assert list(reasons) == [("",), ("insufficient_credits",), ("insufficient_credits",)]
    assert reserving.running(owner.tenant.pk).held == left(owner)


@pytest.mark.sqlite_only
def test_who_can_spend_nothing_is_locked_for_none_of_the_batches_that_wait(
    owner: Person, witness: Witness, monkeypatch: Any
) -> None:
    waiting = [start(owner) for _ in range(3)]
    stopped = {"paused_reason": "insufficient_credits", "cost": waiting[0].reserved, "completed": LINES // 2}
    Batch.objects.filter(status=Status.IN_PROGRESS).update(**stopped)
    prepaid(owner, 3 * int(waiting[0].reserved))
    with monkeypatch.context() as patched:
        patched.setattr(admission, "lock", lambda tenant: pytest.fail("it is locked"))
        lifecycle.go_on()
    assert Batch.objects.filter(paused_reason="").count() == 0
    ledger.post(owner.tenant.pk, Kind.CREDIT_GRANT, "more", USD)
    lifecycle.go_on()
    assert Batch.objects.filter(paused_reason="").count() == 3


def covers_more(owner: Person, how: str, pico: int) -> None:
    prepaid(owner, pico, "pi_2") if how == "credits" else limited(owner, pico)


def test_a_tenant_without_limits_is_asked_about_once_and_runs_on(
    owner: Person, witness: Witness, monkeypatch: Any
) -> None:
    asked: list[int] = []
    terms = spending.terms
    hand = in_hand(owner, 10)

    def ask(tenant: int) -> spending.Terms:
        asked.append(tenant)
        return terms(tenant)

    monkeypatch.setattr(spending, "terms", ask)
    hand.hand_in(1)
    assert asked == []
    Batch.objects.update(cost=hand.batch.reserved - 1)
    for _ in range(3):
        hand.hand_in(1)
    assert asked == [owner.tenant.pk]
    assert hand.batch.paused_reason == "" and hand.batch.cost > hand.batch.reserved


@pytest.mark.sqlite_only
def test_a_smaller_cap_of_its_own_comes_first(owner: Person, witness: Witness) -> None:
    prepaid(owner, USD)
    hand = in_hand(owner, 10, **TINY)
    hand.hand_in(1)
    assert hand.batch.paused_reason == "max_cost_usd"
    Batch.objects.update(reserved=hand.batch.cost)
    lifecycle.resume(hand.batch, max_cost=USD // 2)
    hand.batch.refresh_from_db()
    assert hand.batch.cost < hand.batch.reserved < USD // 2  # what the others should cost, not all that the cap allows


@pytest.mark.sqlite_first
def test_a_resume_that_is_refused_changes_nothing(owner: Person, witness: Witness) -> None:
    prepaid(owner, USD)
    hand = in_hand(owner, 10, **TINY)
    hand.hand_in(1)
    Batch.objects.update(reserved=hand.batch.cost)
    Customer.objects.update(prepaid=False, monthly_limit=1)
    before = Batch.objects.values().get()
    answer = owner.post(f"/v1/batch/{hand.batch.public_id}/resume", {"max_cost_usd": "1"})
    assert error(answer, 402) == "spending_limit_exceeded"
    assert Batch.objects.values().get() == before
    Customer.objects.update(monthly_limit=None)
    assert owner.post(f"/v1/batch/{hand.batch.public_id}/resume", {"max_cost_usd": "1"}).status_code == 200


# --- in numbers -------------------------------------------------------------------------------------------------------

AMOUNTS = st.integers(0, 10**20)


@pytest.mark.sqlite_only
@given(st.lists(AMOUNTS, max_size=12), AMOUNTS, AMOUNTS, st.booleans())
def test_whatever_starts_is_covered(wanted: list[int], have: int, charged: int, credits_only: bool) -> None:
    held = 0
    for amount in wanted:
        funds = Funds(have, None, 0, held) if credits_only else Funds(None, have, charged, held)
        fits = not amount or held + amount + (0 if credits_only else charged) <= have
        with nullcontext() if fits else pytest.raises(Refused):
            spending.check(funds, amount)
        held += amount if fits else 0


@pytest.mark.sqlite_only
@given(st.integers(0, 10**12), st.integers(0, 10**9), st.integers(0, 10**9))
def test_no_share_of_cached_input_costs_more_than_the_most(rate: int, tokens: int, output: int) -> None:
    rates = money.Rates(rate, 10**12 - rate, rate // 3)
    most = money.most(rates, tokens, output)
    assert all(money.cost(rates, tokens, tokens * share // 7, output) <= most for share in range(8))
    assert Decimal(money.usd(most)) == Decimal(most).scaleb(-12)


@pytest.mark.sqlite_only
def test_the_most_of_several_models_is_their_sum() -> None:
    works = {"a": Asked(input=3, high=5), "b": Asked(input=7, high=1), "free": Asked(input=10**9)}
    rates = {"a": money.Rates(10**6, 10**6, 2 * 10**6), "b": money.Rates(10**6, 10**6, 10**6), "free": money.FREE}
    assert reserving.most(works, rates, None) == 13 + 8
    assert reserving.most(works, rates, 20) == 20
    works["a"].largest_output = 1  # 2 pico: 256 of them may be in flight
    works["a"].high = 1_000
    assert reserving.most(works, rates, 20) == 20 + 2 * reserving.IN_FLIGHT
