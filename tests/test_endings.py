"""Batches that end before their last line: cancelled at any moment, by anybody, twice, or overtaken by their deadline.

Workers run in processes of their own, so that every race with validation, sending, commits and finalization is real.
"""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from batches import sweeping, tasks
from batches.core.states import ACTIVE, TERMINAL, Status
from batches.engine import runner
from batches.engine.pump import FLUSH_SECONDS
from batches.engine.runner import HOUSEKEEPING
from batches.engine.stopping import StopFlag
from batches.models import Batch, Result, Upstream
from billing.models import LedgerEntry
from tenants import clock
from tenants.models import Tenant
from tests import crashes
from tests.conftest import Person, step, until
from tests.test_engine import ledgers_agree
from tests.witness import Entry, Witness, request_line

pytestmark = pytest.mark.postgres_first

SLACK = 1.0  # seconds that two busy cores may add
SIZES = (1, 1, 3, 20, 120)


@pytest.fixture
def workers(witness: Witness) -> Iterator[None]:
    """Two runners, and a process that validates, finalizes and sweeps."""
    Tenant.objects.update(batch_limit=10_000, requests_per_minute=1_000_000)
    Upstream.objects.update(max_in_flight=16)
    stop = StopFlag()

    def chores() -> None:
        while not stop():
            step("validating", tasks.validate)
            step("finalizing", tasks.finalize)
            sweeping.sweep()
            time.sleep(0.005)

    def runners() -> None:
        while not stop():
            runner.run(stop=stop, idle=0.5)

    pids = [crashes.fork(chores), crashes.fork(runners), crashes.fork(runners)]
    yield
    stop.set()
    assert [crashes.end(pid) for pid in pids] == [0, 0, 0]


@dataclass
class Story:
    """One batch: when it is ended and how, and what was known when that was answered."""

    pk: int
    public_id: str
    lines: int
    how: str
    at: float
    answers: list[int] = field(default_factory=list)
    answered: float = 0.0
    finished: set[int] = field(default_factory=set)


def submit(owner: Person, number: int, lines: int, how: str, at: float) -> Story:
    content = [request_line(f"{number}-{n}", custom_id=f"line:{n}") for n in range(lines)]
    answer = owner.submit(content)
    assert answer.status_code == 200, answer.content
    batch = Batch.objects.get(public_id=answer.json()["id"])
    return Story(batch.pk, batch.public_id, lines, how, at)


def end(owner: Person, story: Story) -> None:
    path = f"/v1/batch/{story.public_id}/cancel"
    if story.how == "expire":
        Batch.objects.filter(pk=story.pk).update(deadline=clock.now() - timedelta(seconds=1))
        until(lambda: not Batch.objects.filter(pk=story.pk, status__in=("validating", "in_progress")).exists())
    else:
        story.answers.append(owner.post(path).status_code)
    story.answered = time.time()
    if story.how == "twice":
        story.answers.append(owner.post(path).status_code)
    story.finished = set(Result.objects.filter(batch=story.pk).values_list("line", flat=True))


def tell(owner: Person, dice: random.Random, count: int) -> list[Story]:
    """Submit `count` batches and end each at a random moment of its life."""
    waiting: list[Story] = []
    told = []
    for number in range(count):
        how = dice.choice(("cancel", "twice", "expire"))
        waiting.append(submit(owner, number, dice.choice(SIZES), how, time.monotonic() + dice.expovariate(6)))
        while len(waiting) > 5 or any(story.at <= time.monotonic() for story in waiting):
            story = min(waiting, key=lambda story: story.at)
            time.sleep(max(0.0, story.at - time.monotonic()))
            waiting.remove(story)
            end(owner, story)
            told.append(story)
    for story in waiting:
        end(owner, story)
    return told + waiting


def settled() -> bool:
    return not Batch.objects.filter(status__in=ACTIVE).exists()


def agrees(owner: Person, story: Story) -> str:
    """The batch against what its owner was told; its status."""
    batch = Batch.objects.get(pk=story.pk)
    ledgers_agree(owner, batch)
    assert LedgerEntry.objects.filter(kind="batch_charge", reference=story.public_id).count() == 1
    kept = set(Result.objects.filter(batch=batch).values_list("line", flat=True))
    assert story.finished <= kept, "a finished line was lost"
    counts = owner.batch(story.public_id)["request_counts"]
    assert counts["total"] == sum(counts.values()) - counts["total"] == story.lines, counts
    assert (counts["completed"], counts["failed"]) == (len(kept), 0)
    if story.how == "expire":
        assert batch.status in (Status.EXPIRED, Status.COMPLETED)
    else:
        cancelled = batch.status == Status.CANCELLED
        assert set(story.answers) == {200 if cancelled else 409}, (story, batch.status)
    never = {line["error"]["code"] for line in owner.lines(story.public_id) if line["error"]}
    assert never <= {f"batch_{batch.status}"}
    return str(batch.status)


def sends(witness: Witness) -> dict[int, list[Entry]]:
    """The log by batch."""
    found = defaultdict(list)
    for entry in witness.log():
        if entry.marker != "-":
            found[int(entry.marker.removeprefix("line:").partition("-")[0])].append(entry)
    return found


def late(stories: list[Story], log: dict[int, list[Entry]], numbers: dict[int, int]) -> float:
    """Seconds from an answer to the last send of its batch, at most."""
    sent = [entry.at - story.answered for story in stories for entry in log[numbers[story.pk]]]
    return max(sent, default=0.0)


@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.soak)])
def test_ended_at_random_moments(count: int, owner: Person, witness: Witness, workers: None) -> None:
    witness.configure(latency_ms=[10, 40])
    seed = random.randrange(10**6)
    stories = tell(owner, random.Random(seed), count)
    until(settled, 60)
    statuses = Counter(agrees(owner, story) for story in stories)
    numbers = {story.pk: number for number, story in enumerate(sorted(stories, key=lambda story: story.pk))}
    last = late(stories, sends(witness), numbers)
    before = dict(Batch.objects.values_list("pk", "status"))
    sweeping.sweep()
    assert dict(Batch.objects.values_list("pk", "status")) == before
    assert set(before.values()) <= set(TERMINAL)
    assert set(witness.requests_by_marker().values()) <= {1}
    print(f"seed {seed}: {dict(statuses)}, mismatches 0, last send {last:.2f} s after the answer")
    assert last <= FLUSH_SECONDS + HOUSEKEEPING + SLACK


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.soak)])
def test_sending_stops_soon_after_the_answer(count: int, owner: Person, witness: Witness, workers: None) -> None:
    """Long lanes and slow answers: nothing else ends a runner's turn before its time."""
    witness.configure(latency_ms=[100, 400])
    dice, stories = random.Random(), []
    for number in range(count):
        story = submit(owner, number, 400, "cancel", 0)
        until(lambda: Batch.objects.order_by("pk").last().status == Status.IN_PROGRESS)  # type: ignore[union-attr]
        time.sleep(dice.uniform(0.1, 0.8))
        end(owner, story)
        stories.append(story)
    until(settled, 60)
    log = sends(witness)
    lasts = sorted(late([story], log, {story.pk: number}) for number, story in enumerate(stories))
    for story in stories:
        assert agrees(owner, story) == Status.CANCELLED
        assert len(log[stories.index(story)]) < 400
    print(f"last sends, seconds after the answer: {[round(last, 2) for last in lasts]}")
    assert lasts[-1] <= FLUSH_SECONDS + HOUSEKEEPING + SLACK


# --- one moment each --------------------------------------------------------------------------------------------------


def run() -> None:
    runner.run(stop=lambda: False, idle=0.05)


def cancel(owner: Person, story: Story) -> None:
    story.how = "twice"
    end(owner, story)


def test_cancel_while_a_validation_is_about_to_end(owner: Person, witness: Witness) -> None:
    story = submit(owner, 0, 20, "twice", 0)
    stalled = crashes.stall_at(crashes.VALIDATING["validate_after_plan"], lambda: tasks.validate(story.pk))
    cancel(owner, story)
    assert crashes.resume(stalled) == 0
    run()
    step("finalizing", tasks.finalize)
    assert agrees(owner, story) == Status.CANCELLED
    assert witness.requests_by_marker() == {}


def test_cancel_against_the_last_line(owner: Person, witness: Witness) -> None:
    """Its answer is there, and not committed: it is kept and charged, and the batch is cancelled."""
    story = submit(owner, 0, 1, "twice", 0)
    step("validating", tasks.validate)
    stalled = crashes.stall_at(crashes.Point("batches.engine.committing", "commit", "before"), run)
    cancel(owner, story)
    sweeping.sweep()
    assert Batch.objects.get().status == Status.CANCELLING, "it waits for what is in flight"
    assert crashes.resume(stalled) == 0
    step("finalizing", tasks.finalize)
    assert agrees(owner, story) == Status.CANCELLED
    assert (Batch.objects.get().completed, Batch.objects.get().cost > 0) == (1, True)


def test_cancel_after_the_last_commit_is_refused(owner: Person, witness: Witness) -> None:
    story = submit(owner, 0, 1, "twice", 0)
    step("validating", tasks.validate)
    run()
    cancel(owner, story)
    step("finalizing", tasks.finalize)
    cancel(owner, story)
    assert agrees(owner, story) == Status.COMPLETED


@pytest.mark.parametrize("validated", [False, True])
def test_cancel_with_no_worker_alive(validated: bool, owner: Person, witness: Witness) -> None:
    story = submit(owner, 0, 20, "twice", 0)
    if validated:
        step("validating", tasks.validate)
    cancel(owner, story)
    step("finalizing", tasks.finalize)
    assert agrees(owner, story) == Status.CANCELLED
    run()
    assert witness.requests_by_marker() == {}


@pytest.mark.parametrize("how", ["twice", "expire"])
def test_end_a_batch_whose_worker_is_dead(how: str, owner: Person, witness: Witness) -> None:
    """Killed with lines in flight, and nobody noticed yet: the batch waits for its lease, or its burial."""
    Upstream.objects.update(max_in_flight=8)
    witness.configure(latency_ms=[5, 10])
    story = submit(owner, 0, 200, how, 0)
    step("validating", tasks.validate)
    crashes.die_at(crashes.RUNNING["before_commit"]._replace(call=2), run, noticed=False)
    if how == "twice":
        cancel(owner, story)
    else:
        Batch.objects.update(deadline=clock.now() - timedelta(seconds=1))
        sweeping.sweep()
        story.finished = set(Result.objects.values_list("line", flat=True))
    sweeping.sweep()
    assert Batch.objects.get().status in (Status.CANCELLING, Status.EXPIRING)
    crashes.bury()
    sweeping.sweep()
    step("finalizing", tasks.finalize)
    assert agrees(owner, story) == (Status.CANCELLED if how == "twice" else Status.EXPIRED)
    run()
    assert 0 < len(story.finished) < 200
    assert set(witness.requests_by_marker().values()) == {1}
