"""Going on with a paused batch: with which caps, from where they count, and against whatever else happens to it."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django_q.models import OrmQ

from batches import tasks
from batches.core.states import Status
from batches.models import Batch
from billing import money
from tenants.models import ApiKey
from tests.conftest import Person
from tests.test_engine import Work, ledgers_agree, numbered
from tests.test_pause import code, in_hand, paused, submit
from tests.threads import ThreadPoolExecutor
from tests.witness import Witness


def resume(owner: Person, batch: Batch, **fields: str) -> Any:
    return owner.post(f"/v1/batch/{batch.public_id}/resume", fields)


def resume_with(owner: Person, batch: Batch, content: bytes, kind: str = "application/json") -> Any:
    headers = {"Authorization": f"Bearer {owner.key}"}
    return owner.client.post(f"/v1/batch/{batch.public_id}/resume", content, content_type=kind, headers=headers)


def test_a_resumed_batch_runs_on_to_its_next_cap_and_then_to_its_end(
    owner: Person, witness: Witness, work: Work, small_groups: None
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


@pytest.mark.sqlite_first
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


@pytest.mark.sqlite_first
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
