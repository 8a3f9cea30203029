"""The asyncio half of a runner: keeps each upstream's slots busy with the lines in hand.

It touches no database. A turn runs the loop until there is a group of results to commit, the lines in hand run low,
or a quarter of a second has passed; between turns the loop stands still and the runner uses the ORM.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import NamedTuple

from batches.core import retrying
from batches.core.answers import Verdict, judge
from batches.core.limiting import is_capacity
from batches.core.splicing import replace_model
from batches.engine.channel import Channel
from batches.engine.lines import Held, Lane, LaneKey, Line
from batches.engine.upstream import Client, Withheld

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.25
FLUSH_RESULTS = 192  # that begin a commit
AHEAD_RESULTS = 64  # more, while it is under way; the two are what a crash may lose beside the lines in flight: 256
FLUSH_BYTES = 1024 * 1024


class Outcome(NamedTuple):
    """A line's end: what is committed."""

    line: Line
    verdict: Verdict
    upstream: int | None
    latency_ms: int


class Pump:
    """Lanes, channels and the results that wait to be committed."""

    def __init__(self) -> None:
        self.lanes: dict[LaneKey, Lane] = {}
        self.channels: dict[int, Channel] = {}
        self.outcomes: list[Outcome] = []
        self.lease_end = 0.0  # time.monotonic(): nothing is sent later
        self.stalled = False  # the database takes no results: nothing more is sent
        self.committing = False  # a group is being stored while the loop runs
        self._bytes = 0
        self._flush_at = 0.0  # time.monotonic(): when what there is should be committed at the latest
        self._urgent = False  # nothing more will come for now: commit at once
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: BaseException | None = None
        self._client = Client(may_send=self._may_send)
        self.hungry_below: dict[LaneKey, int] = {}  # ready lines below which it pays to claim more

    def lane(self, key: LaneKey) -> Lane:
        return self.lanes.setdefault(key, Lane())

    def admit(self, held: Held, lines: list[Line]) -> None:
        self.lane(held.lane).admit(held, lines, time.monotonic(), time.time())

    def wake_channels(self) -> None:
        """Let parked slots look for lines again: lines were admitted, fell due, or slots were granted."""
        for channel in self.channels.values():
            self._fill(channel)
            self._unpark(channel, len(channel.parked))

    def _fill(self, channel: Channel) -> None:
        while channel.workers < channel.limit:
            channel.workers += 1
            task = asyncio.get_running_loop().create_task(self._slot(channel))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A slot that ended by an error of ours ends the runner: a line it held would never have an outcome."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._broken = error
            self._wake.set()

    def _unpark(self, channel: Channel, number: int) -> None:
        for _ in range(min(number, len(channel.parked))):
            channel.parked.pop().set_result(None)

    async def turn(self) -> None:
        """Run the loop until something needs the database, at most FLUSH_SECONDS."""
        self._wake.clear()
        self.wake_channels()
        now = time.monotonic()
        waiting = (due - now for lane in self.lanes.values() if (due := lane.next_due()) is not None)
        timeout = min((wait for wait in waiting if wait > 0), default=FLUSH_SECONDS)  # a slot takes what is due already
        timeout = min(timeout, max(0.0, self._flush_at - now) if self.outcomes else FLUSH_SECONDS)
        if self._full() or self._urgent:
            return
        if self._broken:
            raise self._broken
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            pass

    def sever(self, channel: Channel) -> None:
        """Give up what is in flight there: the lines go back as they were, an answer that comes now is not taken."""
        for slot in channel.sending:
            if slot is not None:
                slot.cancel()

    def fail(self, line: Line, verdict: Verdict) -> None:
        """A line ends without being sent."""
        self.outcomes.append(Outcome(line, verdict, None, 0))

    def end_turn(self) -> None:
        """End the turn now; for other threads."""
        self._loop.call_soon_threadsafe(self._wake.set)

    def take_outcomes(self) -> list[Outcome]:
        """The results so far; from now on they are the caller's."""
        outcomes, self.outcomes, self._bytes = self.outcomes, [], 0
        self._urgent, self._flush_at = False, time.monotonic() + FLUSH_SECONDS
        return outcomes

    def commit_due(self, now: float) -> bool:
        """Whether there are results that should be committed now."""
        return bool(self.outcomes) and (self._full() or self._urgent or now >= self._flush_at)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._client.close()

    def _full(self) -> bool:
        enough = AHEAD_RESULTS if self.committing else FLUSH_RESULTS
        return len(self.outcomes) >= enough or self._bytes >= FLUSH_BYTES

    async def _slot(self, channel: Channel) -> None:
        """One slot of an upstream: takes a line, sends it, settles it, for as long as the slot is granted."""
        try:
            while channel.workers <= channel.limit:
                now = time.monotonic()
                may_send = self._may_send() and channel.may_send(now)
                line = self._take(channel, now) if may_send else None
                if line is None:
                    await self._park(channel)
                else:
                    await self._send(channel, line, now)
            self._unpark(channel, len(channel.parked))  # it leaves as one too many: its next line is for one that stays
        finally:
            channel.workers -= 1

    def _may_send(self) -> bool:
        return time.monotonic() < self.lease_end and not self.stalled

    def _take(self, channel: Channel, now: float) -> Line | None:
        """The next line to send; a retry that is over the upstream's budget is delayed further."""
        while line := channel.lane.take(now):
            wait = channel.budget.wait(now) if line.attempts else 0.0
            if not wait:
                return line
            line.held.in_flight -= 1
            channel.lane.delay(line, now + wait)
        return None

    async def _park(self, channel: Channel) -> None:
        """Nothing to send: wait until somebody knows better."""
        if self._hungry(channel):
            self._wake.set()
        future = asyncio.get_running_loop().create_future()
        channel.parked.append(future)
        await future

    def _hungry(self, channel: Channel) -> bool:
        return len(channel.lane.ready) < self.hungry_below.get(channel.key, 0)

    async def _send(self, channel: Channel, line: Line, started: float) -> None:
        slot = asyncio.current_task()
        channel.sending.add(slot)
        in_flight = channel.busy
        channel.budget.sent(started)
        line.started = started
        held = line.held
        try:
            body = replace_model(line.body, channel.own_model) if channel.own_model else line.body
            answer = await self._client.post(channel.targets[held.endpoint], body)
        except BaseException as error:  # it goes back as it was: it is no attempt
            held.in_flight -= 1
            channel.lane.delay(line, started)
            if isinstance(error, Withheld):
                return
            raise
        finally:
            channel.sending.discard(slot)
        verdict = judge(held.endpoint, answer, line.body)
        channel.count(verdict, time.monotonic() - started)
        if channel.own_model and verdict.delivered:
            verdict = verdict._replace(body=replace_model(verdict.body, channel.public_model))
        asked = None if verdict.final else retrying.retry_after(answer.retry_after, datetime.now(UTC))
        waits = self._learn(channel, line, verdict, in_flight) or retrying.is_wait(asked)
        line.attempts += not waits
        self._settle(channel, line, verdict, asked)

    def _learn(self, channel: Channel, line: Line, verdict: Verdict, in_flight: int) -> bool:
        """What an answer says of the upstream; whether it says nothing of the line, so that it is no attempt."""
        now = time.monotonic()
        adaptive, granted = channel.adaptive, channel.granted.limit
        capacity = not verdict.final and is_capacity(verdict.status, verdict.code)
        refused = capacity and verdict.status is not None
        innocent = verdict.cools or (refused and not adaptive.is_lines_own(in_flight))
        if verdict.cools or (capacity and adaptive.limit == 1):
            channel.rest(now, f"status {verdict.status}" if verdict.status else verdict.code)
        elif channel.failures:
            channel.failures, channel.cool_until = 0, 0.0
            log.warning("upstream %s (%s) answers again", channel.id, channel.public_model)
            self._unpark(channel, len(channel.parked))
        if not verdict.cools and adaptive.saw(capacity, line.started, now, granted) and channel.workers < channel.limit:
            self._fill(channel)
        return innocent

    def _settle(self, channel: Channel, line: Line, verdict: Verdict, asked: float | None) -> None:
        now = time.monotonic()
        line.held.in_flight -= 1
        added = channel.lane.advance(line, channel.kind)
        if added > 1:
            self._unpark(channel, added - 1)
        wait = None
        if not verdict.final:
            wait = 0.0 if verdict.cools else retrying.next_attempt(max(line.attempts, 1), asked)
        if wait is not None:
            if channel.failures and not verdict.cools:  # its upstream refuses even one: the next probe is another's
                wait = max(wait, 2 * (channel.cool_until - now))
            line.held.carried[line.number] = (line.attempts, time.time() + wait)
            channel.lane.delay(line, now + wait)
            return
        if verdict.delivered:
            channel.budget.delivered()
        self.outcomes.append(Outcome(line, verdict, channel.id, int((now - line.started) * 1000)))
        self._bytes += len(verdict.body)
        channel.lane.finished += 1
        if not channel.busy and not channel.lane.ready:  # the last line of a batch
            self._urgent = True
        if self._urgent or self._full() or self._hungry(channel):
            self._wake.set()
