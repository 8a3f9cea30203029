"""Several workers on PostgreSQL at once: one is killed, one sleeps beyond its lease and wakes, one lives tomorrow."""

from datetime import timedelta
from typing import Any

import pytest

from batches import sweeping, tasks
from batches.core.states import Status
from batches.engine import runner
from batches.models import Batch, Permit, Result, Runner, Slice, Upstream
from tenants import clock
from tests import crashes, environment
from tests.conftest import Person, step, until
from tests.crashes import Point
from tests.test_database_loss import at_another_time
from tests.test_engine import ledgers_agree, numbered
from tests.witness import Witness

pytestmark = pytest.mark.skipif(environment.DATABASE != "postgres", reason="SQLite's clock is the machine's")
LINES, SLOTS, FLUSH = 1500, 32, 256


def run() -> None:
    """To the end of the batch, however long the one asleep keeps its slots and slices."""
    runner.run(stop=lambda: Result.objects.count() == LINES, idle=20)


def test_one_killed_one_asleep_one_at_another_time(
    owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr("batches.engine.leases.LEASE", timedelta(seconds=2))
    monkeypatch.setattr("batches.engine.leases.HEARTBEAT", 0.3)
    settings.RUNNERS = 4
    witness.configure(latency_ms=[20, 30])
    Upstream.objects.update(max_in_flight=SLOTS)
    identity = owner.submit(numbered(LINES)).json()["id"]
    step("validating", tasks.validate)
    asleep = crashes.stall_at(Point("batches.engine.committing", "commit", "before", 2), run)
    crashes.die_at(Point("batches.engine.committing", "commit", "after", 2), run)
    pids = [crashes.fork(at_another_time(26, run)), crashes.fork(run)]
    until(lambda: not Runner.objects.filter(pid=asleep, lease_until__gte=clock.now()).exists())
    sweeping.sweep()
    until(lambda: Result.objects.count() == LINES, 60)
    crashes.resume(asleep)
    assert [crashes.end(pid) for pid in pids] == [0, 0]
    step("finalizing", tasks.finalize)
    batch = Batch.objects.get(public_id=identity)
    ledgers_agree(owner, batch)
    again = sum(witness.requests_by_marker().values()) - LINES
    print(f"four workers, one killed, one asleep, one 26 h ahead: {again} sent again, {batch.wasted} answers too late")
    assert (batch.status, batch.completed, batch.failed) == (Status.COMPLETED, LINES, 0)
    assert again <= 2 * (SLOTS + FLUSH)
    for rows in (Runner, Permit, Slice):
        assert not rows.objects.exists()
