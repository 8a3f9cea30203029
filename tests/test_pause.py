"""Caps on cost and failures: what pauses a batch, and what a pause leaves alone."""

from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from django.db.models import Q

from batches import expecting, lifecycle, objects, sweeping, tasks
from batches.core.answers import Usage, Verdict
from batches.core.states import Status
from batches.engine import leases
from batches.engine.commit import commit
from batches.engine.lines import Held, Line
from batches.engine.pump import Outcome
from batches.models import Batch, File, Result, Slice
from billing import money
from tenants import clock
from tenants.models import Tenant
from tests.conftest import Person, step
from tests.test_engine import Work, ledgers_agree, numbered
from tests.witness import Witness

SLOTS = 32  # of the witness
BODY = b'{"usage":{"prompt_tokens":1,"completion_tokens":1}}'
TINY = "0.000000000001"  # a cap that any charged line reaches


def submit(owner: Person, lines: list[Any], **fields: str) -> Batch:
    answer = owner.submit(lines, **fields)
    assert answer.status_code == 200, answer.content
    step("validating", tasks.validate)
    batch = Batch.objects.get(public_id=answer.json()["id"])
    assert batch.status == Status.IN_PROGRESS, batch.errors
    return batch


class Hand(NamedTuple):
    """A batch of which this test is the runner: a slice in hand, its lines not sent."""

    batch: Batch
    held: Held
    lines: list[Line]

    def hand_in(self, count: int, **verdict: Any) -> None:
        """Commit results of the next lines, delivered ones unless said otherwise."""
        good: dict[str, Any] = {"final": True, "delivered": True, "status": 200, "body": BODY, "usage": Usage(1, 0, 1)}
        commit([Outcome(self.lines.pop(0), Verdict(**(good | verdict)), 1, 5) for _ in range(count)])
        self.batch.refresh_from_db()


def in_hand(owner: Person, lines: int, **fields: str) -> Hand:
    batch = submit(owner, numbered(lines), **fields)
    (claim,) = leases.claim(leases.register(), Q(), 1)
    held = Held(claim, ("witness", None))
    read = held.read(objects.read(claim.plan_key, claim.offset, claim.length), set())
    return Hand(batch, held, read)


def paused(owner: Person, lines: int = 3, **fields: str) -> Batch:
    """A batch that its first line has paused, in nobody's hand."""
    hand = in_hand(owner, lines, **({"max_cost_usd": TINY} | fields))
    hand.hand_in(1)
    leases.release(hand.held.claim, {})
    assert hand.batch.paused_reason == "max_cost_usd"
    return hand.batch


def code(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.content
    return str(answer.json()["error"]["code"])


def test_a_cost_cap_pauses_and_nothing_more_is_sent(owner: Person, witness: Witness, work: Work) -> None:
    """Over the cap go at most the results of one flush window and what was in flight."""
    witness.configure(latency_ms=[300, 300], tokens=1000)  # longer than a flush window: one wave of slots in each
    batch = submit(owner, numbered(300), max_cost_usd="0.04")
    at_pause: list[int] = []

    def stop() -> bool:
        if not at_pause and Batch.objects.exclude(paused_reason="").exists():
            at_pause.append(Result.objects.count())
        return False

    work(stop=stop)
    batch.refresh_from_db()
    assert (batch.status, batch.paused_reason) == (Status.IN_PROGRESS, "max_cost_usd")
    sent = sum(witness.requests_by_marker().values())
    assert batch.completed == Result.objects.count() == sent <= at_pause[0] + 2 * SLOTS < 300
    dearest = max(Result.objects.values_list("cost", flat=True))
    cap = money.amount("0.04")
    assert cap <= batch.cost <= cap + 3 * SLOTS * dearest
    assert not Slice.objects.filter(state=Slice.State.LEASED).exists()
    shown = owner.batch(batch.public_id)
    assert [shown[name] for name in ("status", "paused_reason", "max_cost_usd", "max_error_rate", "completed_count")] == [
        "in_progress", "max_cost_usd", "0.04", None, sent,
    ]  # fmt: skip
    partial = owner.get(f"/v1/batch/{batch.public_id}/output?partial=true")
    assert len(b"".join(partial.streaming_content).splitlines()) == sent
    work()
    assert sum(witness.requests_by_marker().values()) == sent


@pytest.mark.sqlite_first
def test_an_error_rate_pauses(owner: Person, witness: Witness, work: Work) -> None:
    witness.configure(latency_ms=[5, 10], lasting_rates={"400": 0.5})
    batch = submit(owner, numbered(600), max_error_rate="0.2")
    work()
    batch.refresh_from_db()
    assert (batch.status, batch.paused_reason) == (Status.IN_PROGRESS, "max_error_rate")
    assert 50 <= batch.completed + batch.failed == sum(witness.requests_by_marker().values()) < 600
    assert owner.batch(batch.public_id)["max_error_rate"] == 0.2


@pytest.mark.sqlite_first
def test_below_fifty_lines_no_error_rate_pauses(owner: Person, witness: Witness, work: Work) -> None:
    witness.configure(lasting_rates={"400": 1.0})
    batch = submit(owner, numbered(49), max_error_rate="0.01")
    work()
    batch.refresh_from_db()
    assert (batch.status, batch.failed) == (Status.COMPLETED, 49)


def test_a_last_line_that_crosses_the_cap_completes_the_batch(owner: Person, witness: Witness, work: Work) -> None:
    batch = submit(owner, numbered(1), max_cost_usd=TINY)
    work()
    ledgers_agree(owner, batch)
    assert (batch.status, batch.paused_reason) == (Status.COMPLETED, "")


def test_lines_in_flight_at_a_pause_are_kept_and_the_last_completes_it(owner: Person, witness: Witness) -> None:
    hand = in_hand(owner, 3, max_cost_usd=TINY)
    hand.hand_in(1)
    assert hand.batch.paused_reason and hand.held.stopped
    hand.hand_in(1)
    assert (hand.batch.status, hand.batch.completed) == (Status.IN_PROGRESS, 2)
    hand.hand_in(1)
    assert (hand.batch.status, hand.batch.paused_reason) == (Status.FINALIZING, "")
    step("finalizing", tasks.finalize)
    ledgers_agree(owner, hand.batch)


@pytest.mark.sqlite_first
def test_the_first_cap_that_is_reached_is_named(owner: Person, witness: Witness) -> None:
    hand = in_hand(owner, 128 * 8, max_cost_usd=TINY, max_error_rate="0.5")
    hand.hand_in(60, delivered=False, status=400)
    assert hand.batch.paused_reason == "max_error_rate"
    hand.hand_in(1)
    assert hand.batch.cost > 0 and hand.batch.paused_reason == "max_error_rate"


def test_a_paused_batch_is_not_claimed(owner: Person, witness: Witness) -> None:
    batch = paused(owner)
    runner = leases.register()
    assert leases.claim(runner, Q(), 1) == []
    assert leases._claim_next(runner, batch.pk, Q(), (0.0, 1.0)) == []  # paused since it was a candidate
    assert not sweeping._claimable_slices()


def test_a_paused_batch_has_no_expected_end(owner: Person, witness: Witness) -> None:
    batch = paused(owner)
    expecting.refresh()
    found = owner.batch(batch.public_id)
    assert (found["estimated_completion_at"], found["waiting_reason"]["code"]) == (None, "paused")


def test_a_paused_batch_holds_its_place(owner: Person, witness: Witness) -> None:
    Tenant.objects.update(batch_limit=1)
    paused(owner)
    assert code(owner.submit(numbered(1)), 429) == "concurrent_batch_limit_exceeded"


@pytest.mark.sqlite_first
def test_a_paused_batch_can_be_cancelled(owner: Person, witness: Witness) -> None:
    batch = paused(owner)
    answer = owner.post(f"/v1/batch/{batch.public_id}/cancel")
    assert (answer.status_code, answer.json()["paused_reason"]) == (200, None)
    step("finalizing", tasks.finalize)
    ended_early(owner, batch, Status.CANCELLED, "batch_cancelled")


@pytest.mark.sqlite_first
def test_a_paused_batch_expires(owner: Person, witness: Witness) -> None:
    batch = paused(owner)
    Batch.objects.update(deadline=clock.now() - timedelta(seconds=1))
    sweeping.sweep()
    step("finalizing", tasks.finalize)
    ended_early(owner, batch, Status.EXPIRED, "batch_expired")


def ended_early(owner: Person, batch: Batch, status: Status, why: str) -> None:
    """The first of three lines is delivered and charged, the others were never run."""
    ledgers_agree(owner, batch)
    assert (batch.status, batch.paused_reason, batch.completed) == (status, "", 1)
    assert [(line["error"] or {}).get("code") for line in owner.lines(batch.public_id)] == [None, why, why]


def test_only_a_running_batch_is_paused(owner: Person, witness: Witness) -> None:
    batch = submit(owner, numbered(1))
    lifecycle.cancel(batch)
    assert not lifecycle.pause(batch.pk, "max_cost_usd")
    batch.refresh_from_db()
    assert batch.paused_reason == ""


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("max_cost_usd", "0", "invalid_max_cost"),
        ("max_cost_usd", "1e3", "invalid_max_cost"),
        ("max_cost_usd", "", "invalid_max_cost"),
        ("max_cost_usd", "null", "invalid_max_cost"),
        ("max_cost_usd", "0.0000000000001", "invalid_max_cost"),
        ("max_cost_usd", "1\x00", "invalid_max_cost"),
        ("max_error_rate", "0", "invalid_max_error_rate"),
        ("max_error_rate", "1.01", "invalid_max_error_rate"),
        ("max_error_rate", "nan", "invalid_max_error_rate"),
    ],
)
def test_what_is_no_cap_is_refused_and_leaves_nothing(owner: Person, field: str, value: str, expected: str) -> None:
    answer = owner.submit(numbered(1), **{field: value})
    assert code(answer, 400) == expected and answer.json()["error"]["param"] == field
    assert not Batch.objects.exists() and not File.objects.exists()


def test_an_estimate_that_crossed_the_pause_is_put_right(owner: Person, witness: Witness) -> None:
    """One that was worked out before the pause, and written after it, says nothing of it."""
    batch = paused(owner)
    batch.refresh_from_db()
    reason = batch.waiting_reason
    assert reason.startswith("paused: ")
    Batch.objects.update(waiting_reason="", expected_at=clock.now())
    expecting.refresh()
    batch.refresh_from_db()
    assert (batch.waiting_reason, batch.expected_at) == (reason, None)
