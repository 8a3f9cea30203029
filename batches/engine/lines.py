"""What a runner holds in memory: slices in hand, their lines, and lanes that say which line is sent next.

A lane is one model for one tenant's dedicated upstreams, or for everybody's shared ones. Its upstreams take lines
from it as they have room, so the least loaded takes most. A chain's next line becomes ready when the one before it has
an outcome, and goes first: the slot that is free now has the chain's prefix in its cache. A line that must be retried
leaves its chain.
"""

import heapq
import time
from collections import Counter, deque
from itertools import count

from msgspec import json

from batches.core import planning, requests
from batches.core.retrying import RETRY_AFTER_CAP
from batches.engine.leases import Claim
from billing.money import Rates
from tenants import observed

PARALLEL_KINDS = ("vllm", "sglang")  # engines that share prefix blocks between requests: siblings run in parallel

LaneKey = tuple[str, int | None]  # model, tenant of a dedicated upstream
_rates = json.Decoder(dict[str, Rates])


class Line:
    """One request on its way."""

    __slots__ = ("attempts", "body", "chain", "custom_id", "held", "number", "started")

    def __init__(self, held: "Held", number: int, chain: int, custom_id: bytes, body: bytes, attempts: int) -> None:
        self.held, self.number, self.chain, self.custom_id, self.body = held, number, chain, custom_id, body
        self.attempts, self.started = attempts, 0.0


class Held:
    """A slice in hand: how many of its lines have no committed result, and how many are in flight."""

    __slots__ = (
        "began", "carried", "chains", "claim", "endpoint", "in_flight", "lane", "lost", "open", "rates", "stopped",
        "waits_until",
    )  # fmt: skip

    def __init__(self, claim: Claim, lane: LaneKey) -> None:
        self.claim, self.lane, self.endpoint = claim, lane, claim.endpoint
        self.rates = _rates.decode(claim.rates)[claim.model]
        self.carried = dict(claim.carried)
        self.chains: dict[int, deque[Line]] = {}
        self.open = self.in_flight = 0
        self.began = time.time()
        self.stopped = False  # nothing more of it is sent: its batch closes, or the runner drains
        self.lost = False  # another runner has it: its state is not ours to write
        self.waits_until = 0.0  # on the loop's clock, as the database was told last

    def tell(self) -> None:
        """It is out of hand: done, or as far as it got."""
        claim = self.claim
        figures: dict[str, observed.Figure] = {"model": claim.model, "slice": claim.slice}
        observed.done("slice", claim.named[0], self.began, {**figures, "lines": claim.lines, "open": self.open})

    def numbers(self) -> list[int]:
        """The numbers of its lines."""
        return [entry[0] for entry in planning.unpack(self.claim.entries)]

    def read(self, data: bytes, finished: set[int]) -> list[Line]:
        """The lines not `finished` yet, in planned order, of the slice's bytes."""
        lines = []
        for number, offset, length, chain, _ in planning.unpack(self.claim.entries):
            if number not in finished:
                if self.claim.suspect:
                    chain = -number  # each for itself: engine/suspects.py
                sent = requests.sendable(data[offset : offset + length])
                attempts = self.carried.get(number, (0, 0.0))[0]
                lines.append(Line(self, number, chain, bytes(sent.custom_id), bytes(sent.body), attempts))
        self.open = len(lines)
        return lines


class Lane:
    """The lines of one model in hand: ready ones, and those that wait for a moment of the loop's clock."""

    def __init__(self) -> None:
        self.ready: deque[Line] = deque()
        self._delayed: list[tuple[float, int, Line]] = []
        self._order = count()
        self.finished = 0  # lines with an outcome, ever: the measure of its speed

    def admit(self, held: Held, lines: list[Line], now: float, unix: float) -> None:
        """Take a slice in hand: the first line of each chain is ready, tried lines wait out their time."""
        for line in lines:
            if line.number in held.carried:
                wait = held.carried[line.number][1] - unix  # by another host's clock, which may be far off
                self.delay(line, now + min(max(0.0, wait), RETRY_AFTER_CAP))
            elif line.chain in held.chains:
                held.chains[line.chain].append(line)
            else:
                held.chains[line.chain] = deque()
                self.ready.append(line)

    def delay(self, line: Line, moment: float) -> None:
        heapq.heappush(self._delayed, (moment, next(self._order), line))

    def drop_stopped(self) -> None:
        """Drop lines of slices that have stopped from the front. No slot takes them where none is granted, and a lane
        that seems to have lines claims no others."""
        while self.ready and self.ready[0].held.stopped:
            self.ready.popleft()

    def take(self, now: float) -> Line | None:
        """The next line to send, or None; lines of a slice that has stopped are dropped on the way."""
        delayed = self._delayed
        while delayed and delayed[0][0] <= now:
            self.ready.appendleft(heapq.heappop(delayed)[2])
        while self.ready:
            line = self.ready.popleft()
            if not line.held.stopped:
                line.held.in_flight += 1
                return line
        return None

    def advance(self, line: Line, kind: str) -> int:
        """The line has an outcome: its chain goes on; returns how many lines became ready.

        They come first: the upstream keeps few prefixes, and another chain would push this one out.
        """
        rest = line.held.chains.get(line.chain)
        if not rest:
            return 0
        if kind in PARALLEL_KINDS:
            self.ready.extendleft(reversed(rest))
            added = len(rest)
            rest.clear()
            return added
        self.ready.appendleft(rest.popleft())
        return 1

    def waits(self) -> dict[Held, float]:
        """Slices of which every line left waits for its moment, and the first of these moments."""
        waiting = Counter(line.held for _, _, line in self._delayed)
        first: dict[Held, float] = {}
        for moment, _, line in self._delayed:
            first[line.held] = min(moment, first.get(line.held, moment))
        return {held: first[held] for held, lines in waiting.items() if lines == held.open}

    def next_due(self) -> float | None:
        """When the next waiting line is due, on the loop's clock."""
        return self._delayed[0][0] if self._delayed else None
