"""A queue that loses, repeats, delays and swaps its tasks: the sweep heals it, and no line is sent twice."""

import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django_q.models import OrmQ

from batches import sweeping, tasks
from batches.core.states import TERMINAL, Status
from batches.engine import runner
from batches.models import Batch, Slice
from tests import crashes
from tests.conftest import Person, step
from tests.test_engine import ledgers_agree, numbered
from tests.witness import Witness

LINES = 100
ROUNDS = 60


def take() -> list[tuple[str, tuple[Any, ...]]]:
    """Every task in the queue, taken out of it: its name and its arguments."""
    rows = list(OrmQ.objects.order_by("pk"))
    OrmQ.objects.all().delete()
    return [(task["func"].rpartition(".")[2], tuple(task["args"])) for task in (row.task for row in rows)]


def do(name: str, arguments: tuple[Any, ...]) -> None:
    if name == "work":
        runner.run(stop=lambda: False, idle=0.02)
    else:
        getattr(tasks, name)(*arguments)


class Queue:
    """A bad one. It is asked for what to run next."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.fates: Counter[str] = Counter()
        self.late: list[tuple[str, tuple[Any, ...]]] = []

    def loses(self) -> list[tuple[str, tuple[Any, ...]]]:
        """Three of four, and the first of each kind for certain."""
        kept = []
        for task in take():
            lost = not self.fates[task[0]] or self.dice.random() < 0.75
            self.fates[task[0]] += 1
            if not lost:
                kept.append(task)
        return kept

    def repeats(self) -> list[tuple[str, tuple[Any, ...]]]:
        """Each three times, and again all that ever was."""
        self.late += take()
        return [task for task in self.late for _ in range(3)][-12:]

    def delays(self) -> list[tuple[str, tuple[Any, ...]]]:
        """Each may wait, be overtaken, and come after its batch has gone on."""
        self.late += take()
        self.dice.shuffle(self.late)
        return [self.late.pop() for _ in range(self.dice.randrange(len(self.late) + 1))]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batches.sweeping.STALE", timedelta(0))
    monkeypatch.setattr("batches.engine.pump.FLUSH_SECONDS", 0.02)


@pytest.mark.parametrize("does", [Queue.loses, Queue.repeats, Queue.delays])
def test_a_bad_queue(
    does: Callable[[Queue], list[tuple[str, tuple[Any, ...]]]], owner: Person, witness: Witness, short: None
) -> None:
    seed = random.randrange(10**6)
    queue, ran = Queue(seed), Counter[str]()
    for _ in range(2):
        assert owner.submit(numbered(LINES)).status_code == 200
    sweeps = 0
    while sweeps < ROUNDS:
        for task in does(queue):
            do(*task)
            ran[task[0]] += 1
        if set(Batch.objects.values_list("status", flat=True)) <= set(TERMINAL):
            break
        sweeping.sweep()
        sweeps += 1
    print(f"{does.__name__}, seed {seed}: {sweeps} sweeps, ran {dict(ran)}")
    for batch in Batch.objects.all():
        ledgers_agree(owner, batch)
        assert (batch.status, batch.completed) == (Status.COMPLETED, LINES)
    assert set(witness.requests_by_marker().values()) == {2}, "each line stands in two batches"
    for task in [("validate", (batch.pk,)), ("finalize", (batch.pk,)), ("work", ())]:
        do(*task)
    assert set(witness.requests_by_marker().values()) == {2}


def test_every_task_three_times_at_once(owner: Person, witness: Witness, short: None) -> None:
    witness.configure(latency_ms=[2, 4])
    batch = Batch.objects.get(public_id=owner.submit(numbered(LINES)).json()["id"])
    for task in ("validate", "work", "finalize"):
        name, arguments = task, () if task == "work" else (batch.pk,)
        pids = [crashes.fork(lambda name=name, arguments=arguments: do(name, arguments)) for _ in range(3)]  # type: ignore[misc]
        assert [crashes.end(pid) for pid in pids] == [0, 0, 0]
    ledgers_agree(owner, batch)
    assert batch.status == Status.COMPLETED
    assert set(witness.requests_by_marker().values()) == {1}
    assert not Slice.objects.exists()


def test_what_runs_is_not_rung_for_again_and_again(owner: Person, witness: Witness, short: None) -> None:
    """A sweep every few seconds for hours, and nobody who takes the tasks: the queue does not grow."""
    for _ in range(3):
        owner.submit(numbered(5))
    step("validating", tasks.validate)
    owner.submit(numbered(5))
    for _ in range(20):
        sweeping.sweep()
    rows = Counter(name for name, _ in take())
    print(f"20 sweeps: {dict(rows)}")
    assert rows["work"] <= 2 and rows["validate"] <= 5
