"""One upstream as one runner uses it: its slots, what it takes at once, its rest, what it answered lately."""

import asyncio
import logging
import time

from batches import measures
from batches.core import retrying
from batches.core.answers import Verdict
from batches.core.limiting import CAPACITY_STATUS, Adaptive
from batches.core.minute import Minute
from batches.core.requests import ENDPOINTS
from batches.engine.lines import Lane, LaneKey
from batches.engine.permits import NOTHING
from batches.engine.upstream import Target
from batches.models import Upstream
from tenants.sealed import Unopened

log = logging.getLogger(__name__)


class Channel:
    """The slots that were granted, the coroutines that fill them, and what the upstream's answers say of it."""

    def __init__(self, row: Upstream, lane: Lane, key: LaneKey) -> None:
        self.lane, self.key, self.id = lane, key, row.pk
        self.granted = NOTHING
        self.asked = 0  # slots last asked for: others count with it
        self.adaptive = Adaptive(row.max_in_flight)
        self.budget = retrying.RetryBudget(time.monotonic())
        self.workers = 0
        self.sending: set[asyncio.Task[None] | None] = set()  # those of them that have a line in flight
        self.severed = False  # by an operator: nothing is sent to it, nothing taken from it
        self.failures, self.cool_until = 0, 0.0
        self.noted = 0  # failures, as the database knows them
        self.minute = Minute()
        self.tally = measures.Tally()
        self.told: tuple[int, ...] = ()  # its figures, as the database knows them
        self.parked: list[asyncio.Future[None]] = []
        self._address = ("", "")
        self.targets: dict[str, Target] = {}  # by endpoint; empty when the address or the key can't be used
        self._locked = ""  # why its key can't be opened
        self.refresh(row)

    def refresh(self, row: Upstream) -> None:
        """Take over what an operator may have changed."""
        self.kind, self.public_model, self.own_model = row.kind, row.model, row.upstream_model
        self.max_in_flight = row.max_in_flight
        self.adaptive.allow(row.max_in_flight)
        if (row.base_url, row.api_key.stored) != self._address:
            self._address = (row.base_url, row.api_key.stored)
            if self._locked:
                self._locked, self.failures, self.cool_until = "", 0, 0.0
            try:
                self.targets = _targets(row, row.api_key.open())
            except Unopened as error:
                self.targets, self._locked = {}, f"its API key can't be opened: {error.cure}"
        if self._locked:
            self.rest(time.monotonic(), self._locked)

    @property
    def busy(self) -> int:
        """How many are in flight."""
        return len(self.sending)

    @property
    def limit(self) -> int:
        """How many may be in flight now: what was granted, or fewer, while the upstream refuses more."""
        return min(self.granted.limit, self.adaptive.open)

    def usable(self) -> int:
        """Slots worth asking for: what the upstream takes, and as many again to find out whether it takes more."""
        return min(self.max_in_flight, 2 * self.adaptive.limit)

    def rest(self, now: float, why: str) -> None:
        """It can't be reached, or refuses us or even one line: leave it alone for a while, then try it with one."""
        if now >= self.cool_until:
            self.failures += 1
            pause = retrying.cooling(self.failures)
            self.cool_until = now + pause
            log.warning(
                "upstream %s (%s) can't be used: %s; it rests for %.1f s", self.id, self.public_model, why, pause
            )

    def count(self, verdict: Verdict, seconds: float) -> None:
        """An attempt has ended."""
        self.tally.saw(verdict, seconds)
        if verdict.status in CAPACITY_STATUS:
            self.minute.throttled += 1
        elif verdict.final and verdict.status is not None:
            self.minute.answers += 1
            self.minute.tokens += verdict.usage.input + verdict.usage.output
        else:
            self.minute.errors += 1

    def figures(self, now: float) -> tuple[int, ...]:
        """In flight, the adaptive limit, and the counts of the last minute."""
        return (self.busy, self.adaptive.limit, *self.minute.cut(now))

    def may_send(self, now: float) -> bool:
        usable = bool(self.targets) and not self.severed
        return usable and now >= self.cool_until and (not self.failures or not self.sending)


def _targets(row: Upstream, key: str) -> dict[str, Target]:
    try:
        return {endpoint: Target(row.base_url, endpoint, key) for endpoint in ENDPOINTS}
    except ValueError as error:
        log.error("upstream %s can't be used: %s", row.pk, error)
        return {}
