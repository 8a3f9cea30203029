"""Caps on cost and failures: what pauses a batch, what a pause leaves alone, and how it goes on."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from django.db import connection
from django.db.models import Q
from django_q.models import OrmQ

from batches import clock, expecting, lifecycle, objects, sweeping, tasks
from batches.core.answers import Usage, Verdict
from batches.core.states import Status
from batches.engine import leases
from batches.engine.commit import commit
from batches.engine.lines import Held, Line
from batches.engine.pump import Outcome
from batches.models import Batch, File, Result, Slice
from billing import money
from tenants.models import ApiKey, Tenant
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


# --- pause -----------------------------------------------------------------------------------------------------------


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


def test_an_error_rate_pauses(owner: Person, witness: Witness, work: Work) -> None:
    witness.configure(latency_ms=[5, 10], lasting_rates={"400": 0.5})
    batch = submit(owner, numbered(600), max_error_rate="0.2")
    work()
    batch.refresh_from_db()
    assert (batch.status, batch.paused_reason) == (Status.IN_PROGRESS, "max_error_rate")
    assert 50 <= batch.completed + batch.failed == sum(witness.requests_by_marker().values()) < 600
    assert owner.batch(batch.public_id)["max_error_rate"] == 0.2


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
    assert leases._claim_next(runner, batch.pk, Q(), (0.0, 1.0), False) == (None, 0)  # paused since it was a candidate
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


def test_a_paused_batch_can_be_cancelled(owner: Person, witness: Witness) -> None:
    batch = paused(owner)
    answer = owner.post(f"/v1/batch/{batch.public_id}/cancel")
    assert (answer.status_code, answer.json()["paused_reason"]) == (200, None)
    step("finalizing", tasks.finalize)
    ended_early(owner, batch, Status.CANCELLED, "batch_cancelled")


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


# --- resume ----------------------------------------------------------------------------------------------------------


def resume(owner: Person, batch: Batch, **fields: str) -> Any:
    return owner.post(f"/v1/batch/{batch.public_id}/resume", fields)


def resume_with(owner: Person, batch: Batch, content: bytes, kind: str = "application/json") -> Any:
    headers = {"Authorization": f"Bearer {owner.key}"}
    return owner.client.post(f"/v1/batch/{batch.public_id}/resume", content, content_type=kind, headers=headers)


def test_a_resumed_batch_runs_on_to_its_next_cap_and_then_to_its_end(
    owner: Person, witness: Witness, work: Work
) -> None:
    witness.configure(latency_ms=[20, 30], tokens=1000)
    batch = submit(owner, numbered(400), max_cost_usd="0.05")
    work()
    before = sum(witness.requests_by_marker().values())
    assert code(resume(owner, batch), 409) == "cost_limit_reached"
    assert code(resume(owner, batch, max_cost_usd="0.05"), 409) == "cost_limit_reached"
    batch.refresh_from_db()
    assert batch.paused_reason and batch.max_cost == money.amount("0.05")
    answer = resume(owner, batch, max_cost_usd="0.2").json()
    assert (answer["paused_reason"], answer["max_cost_usd"]) == (None, "0.2")
    work()
    batch.refresh_from_db()
    assert (batch.status, batch.paused_reason) == (Status.IN_PROGRESS, "max_cost_usd")
    assert batch.cost >= money.amount("0.2") and batch.completed > before
    assert resume_with(owner, batch, b'{"max_cost_usd": null}').json()["max_cost_usd"] is None
    work()
    ledgers_agree(owner, batch)
    assert batch.status == Status.COMPLETED
    assert set(witness.requests_by_marker().values()) == {1}


def test_the_error_rate_is_measured_anew(owner: Person, witness: Witness) -> None:
    hand = in_hand(owner, 128 * 8, max_error_rate="0.5")
    hand.hand_in(50, delivered=False, status=400)
    assert resume(owner, hand.batch).status_code == 200
    hand.hand_in(49, delivered=False, status=400)
    assert hand.batch.paused_reason == ""
    hand.hand_in(1)
    assert hand.batch.paused_reason == "max_error_rate"


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"max_cost_usd":"1"}', b'{"max_cost_usd":null,"max_error_rate":0.5}']
)
def test_bodies_that_resume(owner: Person, witness: Witness, content: bytes) -> None:
    batch = paused(owner, max_error_rate="0.25")
    Batch.objects.update(max_cost=10**9)
    assert resume_with(owner, batch, content).status_code == 200
    batch.refresh_from_db()
    assert batch.max_cost == (money.PICO if b'"1"' in content else None if b"null" in content else 10**9)
    assert batch.max_error_rate == (0.5 if b"0.5" in content else 0.25)


def test_a_forms_null_lifts_a_cap(owner: Person, witness: Witness) -> None:
    batch = paused(owner, max_error_rate="0.25")
    answer = resume(owner, batch, max_cost_usd="null", max_error_rate="null").json()
    assert (answer["paused_reason"], answer["max_cost_usd"], answer["max_error_rate"]) == (None, None, None)


@pytest.mark.parametrize(
    ("content", "status", "expected"),
    [
        (b'{"max_cost_usd": 5}', 400, "invalid_max_cost"),
        (b'{"max_cost_usd": "0"}', 400, "invalid_max_cost"),
        (b'{"max_error_rate": true}', 400, "invalid_max_error_rate"),
        (b'{"max_error_rate": NaN}', 400, "invalid_max_error_rate"),
        (b'{"max_error_rate": {}}', 400, "invalid_max_error_rate"),
        (b'{"max_cost": "5"}', 400, "unsupported_parameter"),
        (b'{"\\ud800": "5"}', 400, "unsupported_parameter"),
        (b'{"max_cost_usd": "5", "max_cost_usd": "6"}', 400, "duplicate_parameter"),
        (b"[]", 400, "malformed_request"),
        (b"null", 400, "malformed_request"),
        (b"{", 400, "malformed_request"),
        (b"\xff", 400, "malformed_request"),
        (b"[" * 100_000, 400, "malformed_request"),
        (b'{"a":' * 100_000, 400, "malformed_request"),
        (b'{"max_error_rate": %s}' % (b"1" * 5000), 400, "malformed_request"),
    ],
)
def test_bodies_that_do_not(owner: Person, witness: Witness, content: bytes, status: int, expected: str) -> None:
    batch = submit(owner, numbered(1))
    assert code(resume_with(owner, batch, content), status) == expected


def test_a_body_of_another_kind(owner: Person, witness: Witness) -> None:
    batch = submit(owner, numbered(1))
    assert code(resume_with(owner, batch, b"5", "text/plain"), 415) == "unsupported_media_type"


def test_what_is_not_paused_is_not_resumed(owner: Person, witness: Witness, work: Work) -> None:
    batch = submit(owner, numbered(1))
    assert code(resume(owner, batch, max_cost_usd="1"), 409) == "batch_not_paused"
    batch.refresh_from_db()
    assert batch.max_cost is None
    work()
    assert code(resume(owner, batch), 409) == "batch_not_paused"


def test_resume_needs_the_scope_of_cancel(owner: Person, witness: Witness) -> None:
    batch = paused(owner)
    ApiKey.objects.update(scopes="batch:read")
    assert code(resume(owner, batch, max_cost_usd="1"), 403) == "insufficient_scope"


def test_resume_and_cancel_one_after_the_other(owner: Person, witness: Witness) -> None:
    batch = paused(owner)
    assert resume(owner, batch, max_cost_usd="1").status_code == 200
    assert owner.post(f"/v1/batch/{batch.public_id}/cancel").status_code == 200
    assert code(resume(owner, batch, max_cost_usd="1"), 409) == "batch_not_paused"


def test_of_many_resumes_at_once_one_is_right(owner: Person, witness: Witness) -> None:
    batch = paused(owner)
    assert sorted(at_once(8, lambda _: resume(owner, batch, max_cost_usd="1").status_code)) == [200, *[409] * 7]
    assert OrmQ.objects.filter(key=tasks.RUNNERS).exists()


def test_resume_against_cancel_ends_cancelled(owner: Person, witness: Witness) -> None:
    for _ in range(4):
        batch = paused(owner)
        answers = at_once(2, lambda n: (resume if n else cancel)(owner, batch).status_code)  # noqa: B023 - called in this turn
        assert answers[0] == 200 and answers[1] in (200, 409)
        batch.refresh_from_db()
        assert batch.paused_reason == "" and batch.status in (Status.CANCELLING, Status.FINALIZING)


def cancel(owner: Person, batch: Batch) -> Any:
    return owner.post(f"/v1/batch/{batch.public_id}/cancel")


def at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """What `act` gives of 0, 1, …, all called at the same moment in threads of their own."""
    gate = threading.Barrier(count)

    def run(number: int) -> Any:
        gate.wait()
        try:
            return act(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
