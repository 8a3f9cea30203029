"""Lines that kill their runner, and slices that lost runners without their fault."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from batches import tasks
from batches.core.answers import Answer
from batches.core.states import Status
from batches.engine import leases, runner
from batches.engine.upstream import Client, Target
from batches.models import Batch, Result, Slice, Upstream
from tests import crashes
from tests.conftest import Person, step
from tests.test_engine import ledgers_agree, numbered, submit
from tests.witness import Witness

pytestmark = pytest.mark.sqlite_only  # what is shown is the same on any database

POISON = b"line:poison"


def run_in_child(work: Callable[[], object]) -> int:
    """Do `work` in a process of its own; the signal that killed it, or 0. What it held is buried as `up` does it."""
    status = crashes.end(crashes.fork(work))
    assert status <= 0, "the child failed: see its traceback"
    crashes.bury()
    return -status


def poisoned(post: Callable[..., Any]) -> Callable[..., Any]:
    """Sending that kills the process once a poisoned line was answered: it never gets to commit it."""

    async def send(self: Client, target: Target, body: bytes) -> Answer:
        answer: Answer = await post(self, target, body)
        if POISON in body:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    return send


def run_to_the_end(batch: Batch, most: int) -> int:
    """Runners, one after another, until the batch is finalizing; how many died."""
    for deaths in range(most + 1):
        if run_in_child(lambda: runner.run(idle=0.3)) == 0:
            batch.refresh_from_db()
            assert batch.status == Status.FINALIZING
            step("finalizing", tasks.finalize)
            return deaths
    raise AssertionError(f"{most} runners died, and it goes on")


def test_a_line_that_kills_its_runner_fails_alone(
    owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = 150
    monkeypatch.setattr(Client, "post", poisoned(Client.post))
    lines = numbered(300)
    lines[place]["body"]["messages"][0]["content"] = POISON.decode()
    batch = submit(owner, lines)
    deaths = run_to_the_end(batch, 20)
    ledgers_agree(owner, batch)
    assert (batch.completed, batch.failed) == (299, 1)
    (failed,) = owner.lines(batch.public_id, "errors")
    assert (failed["custom_id"], failed["response"]) == (f"line:{place}", None)
    assert failed["error"]["code"] == "worker_crashed"
    sent = witness.requests_by_marker()
    again = sum(sent.values()) - len(sent) - (sent[POISON.decode()] - 1)
    print(f"killer at {place}: {deaths} deaths, sent {sent[POISON.decode()]} times, others again {again}")
    assert Result.objects.get(error_code="worker_crashed").attempts == 3
    assert again <= deaths * 32


@pytest.mark.soak
def test_two_killers_in_two_tenants_batches(
    owner: Person, outsider: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Client, "post", poisoned(Client.post))
    batches = []
    for person in (owner, outsider):
        lines = numbered(60)
        lines[7]["body"]["messages"][0]["content"] = POISON.decode()
        batches.append(submit(person, lines))
    deaths = 0
    while run_in_child(lambda: runner.run(idle=0.3)):
        deaths += 1
        assert deaths < 40
    step("finalizing", tasks.finalize)
    for person, batch in zip((owner, outsider), batches, strict=True):
        ledgers_agree(person, batch)
        assert (batch.completed, batch.failed) == (59, 1)
    print(f"two killers: {deaths} deaths")


@pytest.mark.sqlite_only
def test_kills_from_outside_fail_no_line(owner: Person, witness: Witness) -> None:
    """Runner after runner is killed before it commits anything: its slices are suspects, its lines are innocent."""
    witness.configure(latency_ms=[60, 60])
    batch = submit(owner, numbered(64))

    post, answers = Client.post, iter(range(4))

    async def send(self: Client, target: Target, body: bytes) -> Answer:
        answer = await post(self, target, body)
        if next(answers, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    def killed() -> None:
        Client.post = send  # type: ignore[method-assign]
        runner.run()

    assert [run_in_child(killed) for _ in range(2)] == [signal.SIGKILL] * 2
    suspects = Slice.objects.filter(attempts__gte=leases.SUSPECT_AFTER).count()
    assert suspects, "no slice lost two runners: the test shows nothing"
    assert run_to_the_end(batch, 0) == 0
    ledgers_agree(owner, batch)
    assert (batch.completed, batch.failed) == (64, 0)
    assert max(witness.requests_by_marker().values()) > 1, "nothing was in flight at the kills: the test shows nothing"
    print(f"{suspects} suspects, sends {Counter(witness.requests_by_marker().values())}")


@pytest.mark.sqlite_only
def test_a_suspect_is_run_with_nothing_beside_it(owner: Person, witness: Witness) -> None:
    Upstream.objects.update(max_in_flight=8)
    witness.configure(latency_ms=[10, 10])
    slow = numbered(32, faults=["sleep-700"])[31]  # the last line of the suspect, longer than a few turns of the loop
    batch = submit(owner, [*numbered(31), slow, *numbered(64)[32:]])
    Slice.objects.filter(batch=batch, index=1).update(attempts=2)
    first = run_in_child(lambda: runner.run(stop=lambda: Result.objects.count() == 64, idle=20))
    assert first == 0
    log = witness.log()
    size = Slice.objects.filter(batch=batch, index=1).values_list("lines", flat=True)[0]
    assert [entry.in_flight for entry in log[:3]] == [1, 1, 2], "one, then two"
    numbers = {int(entry.marker.removeprefix("line:")) for entry in log[:size]}
    assert numbers == set(range(size, 2 * size)), "lines of others were sent before its own"
    assert max(entry.done_at or 0.0 for entry in log[:size]) <= log[size].at, "others were sent beside its last group"
    step("finalizing", tasks.finalize)
    ledgers_agree(owner, batch)
