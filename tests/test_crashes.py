"""Workers that die: at every named point, and at random moments. Three ledgers must agree, and nothing is sent again
but what was in flight or waited to be committed."""

import random
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction

from batches import sweeping, tasks
from batches.core.states import Status
from batches.engine import runner
from batches.models import Batch, File, Permit, Result, Runner, Segment, Slice, Upstream
from tenants import clock
from tests import crashes
from tests.conftest import Person, step, until
from tests.crashes import FINALIZING, RUNNING, STOPPING, VALIDATING
from tests.test_engine import ledgers_agree, numbered, submit
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first

Work = Callable[..., None]
LINES, SLOTS, FLUSH, AHEAD = 80, 8, 12, 4
AGAIN = SLOTS + FLUSH + AHEAD + 2 * SLOTS  # in flight, and a flush window: two turns end with what came meanwhile


@pytest.fixture
def small(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many commits and claims in few lines."""
    witness.configure(latency_ms=[4, 8])
    Upstream.objects.update(max_in_flight=SLOTS)
    monkeypatch.setattr("batches.engine.pump.FLUSH_RESULTS", FLUSH)
    monkeypatch.setattr("batches.engine.pump.AHEAD_RESULTS", AHEAD)
    monkeypatch.setattr("batches.engine.committing.GROUP_RESULTS", FLUSH)
    monkeypatch.setattr("batches.engine.pump.FLUSH_SECONDS", 0.05)


def lines(count: int = LINES) -> list[Any]:
    """Every tenth fails for good. Two chains, woven: the plan is a file of its own."""
    prefixes = ["a" * 1500, "b" * 1500]
    return [
        request_line(
            str(n),
            custom_id=f"line:{n}",
            faults=["400"] if n % 10 == 0 else [],
            tools=[{"type": "function", "function": {"name": prefixes[n % 2]}}],
        )
        for n in range(count)
    ]


def upload(owner: Person) -> Batch:
    answer = owner.submit(lines())
    assert answer.status_code == 200, answer.content
    return Batch.objects.get(public_id=answer.json()["id"])


def run() -> None:
    runner.run(stop=lambda: False, idle=0.05)


def stop_halfway() -> None:
    runner.run(stop=lambda: Result.objects.count() >= LINES // 3)


def finish(work: Work) -> None:
    """As the service would: buried, swept, worked on."""
    sweeping.sweep()
    work(idle=0.05)
    sweeping.sweep()


def resent(owner: Person, batch: Batch, witness: Witness) -> int:
    """The three ledgers agree and nothing is left over; how many lines were sent again."""
    ledgers_agree(owner, batch)
    assert (batch.status, batch.completed, batch.failed) == (Status.COMPLETED, LINES - LINES // 10, LINES // 10)
    sent = witness.requests_by_marker()
    assert set(sent) == {f"line:{n}" for n in range(LINES)}
    for rows in (Runner, Permit, Slice, Segment):
        assert not rows.objects.exists(), rows
    return sum(sent.values()) - LINES


TRANSACTIONS = ("in_", "_in_", "rows", "charge", "before_commit", "after_files")


def points(*names: str) -> list[Any]:
    """Those inside a transaction, or about one, run on both databases."""
    return [
        name if any(part in name for part in TRANSACTIONS) else pytest.param(name, marks=pytest.mark.sqlite_only)
        for name in names
    ]


@pytest.mark.parametrize("name", points(*RUNNING, *STOPPING))
def test_a_runner_dies_at(name: str, owner: Person, witness: Witness, work: Work, small: None) -> None:
    batch = upload(owner)
    step("validating", tasks.validate)
    crashes.die_at((RUNNING | STOPPING)[name], stop_halfway if name in STOPPING else run)
    finish(work)
    again = resent(owner, batch, witness)
    print(f"{name}: {again} sent again")
    assert again <= AGAIN


@pytest.mark.parametrize("name", points(*VALIDATING))
def test_a_validation_dies_at(name: str, owner: Person, witness: Witness, work: Work, small: None) -> None:
    batch = upload(owner)
    crashes.die_at(VALIDATING[name], lambda: tasks.validate(batch.pk))
    finish(work)
    assert resent(owner, batch, witness) == 0


@pytest.mark.parametrize("name", points(*FINALIZING))
def test_a_finalization_dies_at(name: str, owner: Person, witness: Witness, work: Work, small: None) -> None:
    batch = upload(owner)
    step("validating", tasks.validate)
    run()
    crashes.die_at(FINALIZING[name], lambda: tasks.finalize(batch.pk))
    finish(work)
    assert resent(owner, batch, witness) == 0


# --- killed again and again -------------------------------------------------------------------------------------------


def stored() -> set[Path]:
    return {path for path in (Path(settings.HOME) / "files" / "results").rglob("*") if path.is_file()}


def digests(batch: Batch) -> set[str]:
    """sha256 of the batch's files by their rows, checked against what is stored."""
    batch.refresh_from_db()
    files = [batch.results_file, batch.output_file, batch.error_file]
    for file in files:
        assert file is not None
        content = (Path(settings.HOME) / "files" / file.storage_key).read_bytes()
        assert (len(content), sha256(content).hexdigest()) == (file.bytes, file.sha256)
    return {file.sha256 for file in files if file}


def undisturbed(batch: Batch) -> set[str]:
    """The digests of a finalization that nobody disturbs; its rows are taken back."""
    with pytest.MonkeyPatch.context() as patched, transaction.atomic():
        patched.setattr("batches.marks.move", lambda: None)  # or the storage would tell of what is taken back
        tasks.finalize(batch.pk)
        found = digests(batch)
        transaction.set_rollback(True)
    return found


def test_a_finalization_that_dies_ten_times_writes_the_same_bytes(
    owner: Person, witness: Witness, work: Work, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = upload(owner)
    step("validating", tasks.validate)
    run()
    monkeypatch.setattr("batches.results.drop_scaffolding", lambda pk: None)
    expected = undisturbed(batch)
    monkeypatch.undo()
    before, left = stored(), set()
    whole = ["finalize_after_files", "finalize_after_file_rows", "finalize_after_charge", "finalize_in_end"]
    for name in ["finalize_half_file", *whole] * 2:
        crashes.die_at(FINALIZING[name], lambda: tasks.finalize(batch.pk))
        new = stored() - before
        before |= new
        if name in whole:
            left |= {sha256(path.read_bytes()).hexdigest() for path in new}
            assert len(new) == 3, "a finalization that died leaves its files to the sweep of orphans"
    assert not File.objects.exclude(purpose="batch").exclude(storage_key="").exists()
    finish(work)
    assert resent(owner, batch, witness) == 0
    print(f"10 deaths, {len(digests(batch) | left | expected) - 2} digest a file")
    assert digests(batch) == left == expected and len(expected) == 3


def committed(count: int) -> None:
    until(lambda: Result.objects.count() >= count)


def test_runners_killed_at_random_moments(owner: Person, witness: Witness, work: Work, small: None) -> None:
    """Two runners share a batch; five times one of them is killed and replaced."""
    seed = random.randrange(10**6)
    dice, batch = random.Random(seed), submit(owner, numbered(600))
    moments = sorted(dice.sample(range(50, 540), 5))

    def run() -> None:
        """To the end of the batch, also when the other holds all of it or the database was busy for a moment."""
        runner.run(stop=lambda: Result.objects.count() == 600, idle=60)

    pids = [crashes.fork(run), crashes.fork(run)]
    try:
        for moment in moments:
            committed(moment)
            crashes.kill(pids.pop(dice.randrange(2)))
            crashes.bury()
            pids.append(crashes.fork(run))
    finally:
        codes = [crashes.end(pid) for pid in pids]
    assert codes == [0, 0]
    finish(work)
    ledgers_agree(owner, batch)
    sent = witness.requests_by_marker()
    again = sum(sent.values()) - 600
    print(f"seed {seed}: 5 kills at {moments}, lost {600 - batch.completed}, sent again {again}")
    assert (batch.status, batch.completed, len(sent)) == (Status.COMPLETED, 600, 600)
    assert again <= 5 * AGAIN


# --- stalled beyond the lease -----------------------------------------------------------------------------------------


def state(batch: Batch) -> dict[str, Any]:
    """Everything the database says of a batch, but what it counts as waste."""
    batch.refresh_from_db()
    own = {field.attname: getattr(batch, field.attname) for field in Batch._meta.fields if field.name != "wasted"}
    of_batch = [rows.objects.filter(batch=batch).order_by("pk") for rows in (Result, Slice, Segment)]
    return own | {"rows": [list(rows.values()) for rows in of_batch], "files": list(File.objects.values())}


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batches.engine.leases.LEASE", timedelta(seconds=1))
    monkeypatch.setattr("batches.engine.leases.HEARTBEAT", 0.2)


STALLED_RUNNERS = [
    *(pytest.param(name, marks=pytest.mark.soak) for name in ("after_claim", "after_send")),
    "before_commit",
]


def wait_out_the_lease() -> None:
    for rows in (Runner, Slice):
        until(lambda rows=rows: not rows.objects.filter(lease_until__gte=clock.now()).exists())  # type: ignore[misc]


@pytest.mark.parametrize("name", STALLED_RUNNERS)
def test_a_runner_that_wakes_after_the_end_changes_nothing(
    name: str, owner: Person, witness: Witness, work: Work, small: None, short_leases: None
) -> None:
    batch = upload(owner)
    step("validating", tasks.validate)
    stalled = crashes.stall_at(RUNNING[name], run)
    wait_out_the_lease()
    finish(work)
    again, before = resent(owner, batch, witness), state(batch)
    sent = witness.requests_by_marker()
    assert crashes.resume(stalled) == 0
    after = state(batch)
    print(f"{name}: {again} sent again, stale writes accepted {sum(before[key] != after[key] for key in before)}")
    assert after == before
    late = sum(witness.requests_by_marker().values()) - sum(sent.values())
    assert late <= 1, (
        "the one line that its loop had in hand, between looking at its lease and the wire, when it fell asleep"
    )
    assert again <= AGAIN
    assert bool(batch.wasted) == (name != "after_claim"), "what it handed in is counted as waste"


@pytest.mark.parametrize("name", STALLED_RUNNERS)
def test_a_runner_that_wakes_amid_the_work_hands_in_new_lines_only(
    name: str, owner: Person, witness: Witness, work: Work, small: None, short_leases: None
) -> None:
    """Its slices were run by another, who has given back what was left of them."""
    batch = upload(owner)
    step("validating", tasks.validate)
    stalled = crashes.stall_at(RUNNING[name], run)
    wait_out_the_lease()
    stop_halfway()
    known = {row["line"]: row for row in Result.objects.values()}
    assert len(known) < LINES
    assert crashes.resume(stalled) == 0
    changed = [line for line, row in known.items() if Result.objects.filter(line=line).values().get() != row]
    finish(work)
    again = resent(owner, batch, witness)
    print(f"{name}: {again} sent again, rows changed {len(changed)}, wasted {batch.wasted}")
    assert not changed
    assert again <= AGAIN


def test_a_runner_that_wakes_after_a_cancel_hands_in_nothing(
    owner: Person, witness: Witness, small: None, short_leases: None
) -> None:
    batch = upload(owner)
    step("validating", tasks.validate)
    stalled = crashes.stall_at(RUNNING["before_commit"], run)
    owner.post(f"/v1/batch/{batch.public_id}/cancel")
    wait_out_the_lease()
    sweeping.sweep()
    step("finalizing", tasks.finalize)
    before = state(batch)
    assert crashes.resume(stalled) == 0
    assert state(batch) == before
    assert batch.status == Status.CANCELLED
    assert batch.wasted > 0
    ledgers_agree(owner, batch)


STALLED_STEPS = {
    "validate_after_plan": VALIDATING["validate_after_plan"],
    "finalize_half_file": FINALIZING["finalize_half_file"],
    "finalize_after_files": FINALIZING["finalize_after_files"],
    "after_end": FINALIZING["after_end"],
}


@pytest.mark.parametrize("name", points(*STALLED_STEPS))
def test_a_step_that_wakes_too_late_changes_nothing(
    name: str, owner: Person, witness: Witness, work: Work, small: None
) -> None:
    batch = upload(owner)
    if name == "validate_after_plan":
        stalled = crashes.stall_at(STALLED_STEPS[name], lambda: tasks.validate(batch.pk))
    else:
        step("validating", tasks.validate)
        run()
        stalled = crashes.stall_at(STALLED_STEPS[name], lambda: tasks.finalize(batch.pk))
    Batch.objects.update(step_until=clock.now() - timedelta(seconds=1))
    finish(work)
    assert resent(owner, batch, witness) == 0
    before, objects = state(batch), stored()
    assert crashes.resume(stalled) == 0
    assert state(batch) == before
    if name != "after_end":
        assert stored() <= objects, "it removed what it had written for nothing"
    ledgers_agree(owner, batch)
