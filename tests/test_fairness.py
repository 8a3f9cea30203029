"""A small tenant behind a big one, on the real engine: its wait against the same batch alone."""

import time
from collections.abc import Callable

import pytest

from batches import tasks
from batches.core.states import Status
from batches.engine import runner
from batches.models import Batch, Result, Upstream
from tests.conftest import Person, step
from tests.test_engine import numbered
from tests.witness import Witness

SMALL = 10


def submit(person: Person, lines: int) -> Batch:
    answer = person.submit(numbered(lines))
    assert answer.status_code == 200, answer.content
    step("validating", tasks.validate)
    return Batch.objects.get(public_id=answer.json()["id"])


def wait(person: Person, begin: Callable[[], bool]) -> float:
    """Seconds from the submission of ten lines, once `begin` holds, until all are done; the runner stops then."""
    batches: list[tuple[Batch, float]] = []
    ended: list[float] = []

    def stop() -> bool:
        if not batches and begin():
            batches.append((submit(person, SMALL), time.monotonic()))
        if batches and Batch.objects.get(pk=batches[0][0].pk).status == Status.FINALIZING:
            ended.append(time.monotonic())
        return bool(ended)

    runner.run(stop=stop, idle=5)
    assert ended, "the small batch was not finished: the big one ended first"
    step("finalizing", tasks.finalize)
    return ended[0] - batches[0][1]


@pytest.mark.parametrize("lines", [5000, pytest.param(50_000, marks=pytest.mark.soak)])
def test_ten_lines_behind_many(lines: int, owner: Person, outsider: Person, witness: Witness) -> None:
    witness.configure(latency_ms=[40, 60])
    Upstream.objects.update(max_in_flight=64)
    alone = wait(outsider, lambda: True)
    big = submit(owner, lines)
    behind = wait(outsider, lambda: Result.objects.filter(batch=big).count() >= 200)
    done = Result.objects.filter(batch=big).count()
    print(f"10 lines alone {alone:.2f} s, behind {lines} lines {behind:.2f} s; {done} of those were done by then")
    assert done < lines // 2, "it did not wait for the big one"
    assert behind <= 20 * alone
