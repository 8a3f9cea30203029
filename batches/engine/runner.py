"""A runner: claims slices, pumps their lines to the upstreams, commits the results, until it is told to hand over.

It needs no queue: django-q2's worker calls `run`, and a plain loop could. The ORM is used between the pump's turns,
in this thread, while the event loop stands still; only commits run beside the next turn, in a thread.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from contextlib import suppress

import uvloop
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection

from batches import identity, lifecycle, marks, measures
from batches.engine import entering, leases
from batches.engine.commit import commit
from batches.engine.committing import Committer, first_group
from batches.engine.permits import NOTHING
from batches.engine.pump import Outcome, Pump
from batches.engine.stopping import stopping
from batches.engine.supply import Supply
from batches.engine.upstream import ATTEMPT_DEADLINE
from batches.models import Batch

log = logging.getLogger(__name__)

IDLE_SECONDS = 5.0  # without anything to do, before the loop ends
HOUSEKEEPING = 0.2  # seconds between looks at batches, permits and upstreams
DATABASE_PAUSE = 0.1  # seconds, before a database that failed is asked again
COMPLAINT_SECONDS = 10.0  # between two warnings that the database fails
DRAIN_SECONDS = 30.0  # for lines in flight at a stop; at a handover, as long as an attempt may last


def run(stop: Callable[[], bool] = stopping, idle: float = IDLE_SECONDS, seconds: float | None = None) -> None:
    """Run what is fairest until a stop, `idle` seconds without work, or `seconds` (then a successor is rung for)."""
    close_old_connections()
    # first without the lock of `enter`: most who are rung for find no room
    if stop() or leases.live_runners(identity.HOST) >= settings.RUNNERS or not marks.look():
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop, suppress(entering.Full):
        RunnerLoop(loop, stop, idle, seconds or settings.RUNNER_SECONDS).run()


async def _make_pump() -> Pump:
    return Pump()


class RunnerLoop:
    """One run of a runner: its row, what waits to be committed, and when it last did what. Raises entering.Full."""

    def __init__(self, loop: asyncio.Runner, stop: Callable[[], bool], idle: float, seconds: float) -> None:
        now = time.monotonic()
        self._row = entering.enter(settings.RUNNERS)
        self._loop, self._stop, self._idle = loop, stop, idle
        self._pump = loop.run(_make_pump())
        self._supply = Supply(self._pump)
        self._committer = Committer(self._pump.end_turn)
        self._outcomes: list[Outcome] = []  # taken from the pump, not stored yet
        self._pump.lease_end = now + leases.LEASE.total_seconds()
        self._ends, self._drain_ends = now + seconds, float("inf")
        self._beaten = self._busy_at = now
        self._kept_house = 0.0
        self._complained = float("-inf")
        self._doubts = False  # the database was away: is it the same one?

    def run(self) -> None:
        try:
            self._between_turns()
            while not self._finished():
                self._loop.run(self._pump.turn())
                self._between_turns()
        finally:
            self._loop.run(self._pump.close())
            self._end_commit()
            self._outcomes += self._pump.take_outcomes()
            self._commit()
            self._committer.close()
            self._supply.tell_counts()
            self._database(self._release_stopped)
            self._database(lambda: leases.unregister(self._row))

    @property
    def _draining(self) -> bool:
        return self._drain_ends < float("inf")

    def _finished(self) -> bool:
        now = time.monotonic()
        if self._supply.held or self._outcomes:
            self._busy_at = now
        if self._stop():
            self._drain(now + DRAIN_SECONDS)
        elif now > self._ends:
            self._drain(now + ATTEMPT_DEADLINE)
        if self._draining:
            return not (self._supply.held or self._outcomes) or now > self._drain_ends
        return now - self._busy_at > self._idle

    def _drain(self, until: float) -> None:
        """Send nothing new; unsent lines go back first, and a successor is called, so that slots stay full."""
        first = not self._draining
        self._end_commit()
        self._drain_ends = min(self._drain_ends, until)
        if first:
            for held in self._supply.held.values():
                held.stopped = True
            self._database(self._release_stopped)
            self._database(lambda: leases.hand_over(self._row))

    def _between_turns(self) -> None:
        now = time.monotonic()
        self._end_commit()
        if self._outcomes or self._draining or self._supply.has_suspect:  # one step at a time
            self._outcomes += self._pump.take_outcomes()
            self._commit()
        if now - self._beaten > leases.HEARTBEAT:
            self._database(self._heartbeat)
            self._database(self._supply.note_waits)
            self._database(lambda: self._supply.tell_figures(self._row))
            self._supply.tell_counts()
        if now - self._kept_house > HOUSEKEEPING:
            self._kept_house = now
            self._database(self._stop_closed_batches)
            self._database(lambda: self._supply.refresh(self._row, self._draining))
        self._database(self._release_stopped)
        if not self._draining and not self._pump.stalled:
            self._database(self._claim)
        if not self._outcomes and self._pump.commit_due(time.monotonic()):
            self._begin_commit()

    def _claim(self) -> None:
        self._doubts = self._doubts and not marks.look()
        if not self._doubts:
            self._supply.claim(self._row)

    def _begin_commit(self) -> None:
        """Commit a group while the next turn runs."""
        self._outcomes = self._pump.take_outcomes()
        group = first_group(self._outcomes)
        del self._outcomes[: len(group)]
        self._committer.start(group)
        self._pump.committing = True

    def _end_commit(self) -> None:
        """Wait for the group that is under way; one that failed is the first of those to commit."""
        group, error = self._committer.wait()
        self._pump.committing = False
        if error is not None:
            self._outcomes[:0] = group
            self._report(error)
        elif group:
            self._note_pauses(group)

    def _commit(self) -> None:
        """Commit what there is, in groups; while the database takes none, nothing more is sent."""
        while self._outcomes:
            group = first_group(self._outcomes)
            self._pump.stalled = not self._database(functools.partial(commit, group))
            if self._pump.stalled:
                return
            self._note_pauses(group)
            del self._outcomes[: len(group)]

    def _note_pauses(self, group: list[Outcome]) -> None:
        """A commit that paused its batch: stop its other slices before another line of them is sent."""
        if any(outcome.line.held.stopped for outcome in group):
            self._kept_house = 0.0

    def _database(self, work: Callable[[], object]) -> bool:
        """Do `work`; on a database that fails keep what is in memory and go on later. The lease bounds how long."""
        try:
            work()
        except DatabaseError as error:
            self._report(error)
            self._doubts = True
            connection.close()
            time.sleep(DATABASE_PAUSE)
            return False
        return True

    def _report(self, error: DatabaseError) -> None:
        measures.DATABASE_ERRORS.inc()
        if time.monotonic() - self._complained > COMPLAINT_SECONDS:
            log.warning("runner %s: the database failed (%s); trying on", self._row.pk, type(error).__name__)
            self._complained = time.monotonic()

    def _heartbeat(self) -> None:
        """Renew the leases; what was lost meanwhile is stopped. Our clock starts before the database's answer."""
        asked = time.monotonic()
        kept = leases.heartbeat(self._row, [held.claim for held in self._supply.held.values()])
        if kept is None:  # buried: others may use our permits and slices already
            for channel in self._pump.channels.values():
                channel.granted = NOTHING
            leases.unregister(self._row)
            self._row, kept = leases.register(), set()
            if leases.live_runners(identity.HOST) > settings.RUNNERS:  # our place is taken
                self._ends = asked  # hand in what we have, and go
        self._beaten, self._pump.lease_end = asked, asked + leases.LEASE.total_seconds()
        for pk, held in self._supply.held.items():
            if pk not in kept:
                held.stopped = held.lost = True

    def _stop_closed_batches(self) -> None:
        """Nothing more is sent for a batch that left in_progress or was paused, or whose tenant was suspended."""
        helds = self._supply.held.values()
        running = Batch.objects.filter(lifecycle.runnable(), pk__in={held.claim.batch for held in helds})
        pks = set(running.values_list("pk", flat=True)) if helds else set()
        for held in helds:
            held.stopped = held.stopped or held.claim.batch not in pks

    def _release_stopped(self) -> None:
        """Let go of slices that are done, or stopped with nothing in flight and nothing uncommitted."""
        uncommitted = {outcome.line.held for outcome in self._outcomes + self._pump.outcomes}
        for pk, held in list(self._supply.held.items()):
            done = held.open == 0
            if held in uncommitted or not (done or (held.stopped and held.in_flight == 0)):
                continue
            if not done and not held.lost:
                leases.release(held.claim, held.carried)
            del self._supply.held[pk]
            held.tell()
            if held.stopped:
                lifecycle.close_if_drained(held.claim.batch)
