"""When a batch should end, by what the scheduler will do. Pure. docs/decisions/0012-expected-ends.md

Slices are claimed in the order of virtual time (scheduling.py), and a lane sends what was claimed in that order. So a
batch ends when the lane, at its speed, has done what is in hand, what is claimed before the batch's last slice, and
that slice. Only when that slice is claimed must be foreseen; times are seconds from now, work is in tokens.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil, floor, inf
from typing import NamedTuple

from batches.core.scheduling import MARGIN, Candidate, Load, urgent, virtual_times, weights

ENOUGH = 32  # lines in the latest run of results, before their rate says more than slots and pace
LATELY = 60.0  # seconds of it that count, if there are enough lines in them
IDLE_LATENCIES, IDLE_SECONDS = 2.0, 2.0  # without a result: nothing was being run
FORESEEN = 100  # changes of weights that are followed: beyond them, shares stay as they are
ROUNDING = 1 + 1e-9
EVER = 1e9  # seconds overdue: in danger whatever the speed
MOVED, MOVED_SECONDS = 0.02, 0.1  # of the time left: a smaller change is not worth a write


class Work(NamedTuple):
    """A batch's part of one lane: token work as its lines will take it, as far as that is known."""

    batch: int
    tenant: int
    weight: int
    reserved: int  # slots
    left: float  # without a result
    open: float  # of it, in slices that nobody has in hand
    last: float  # of the last of these slices; when none is open, of the last one in hand
    line: float  # of one line
    seconds_left: float  # to the deadline
    raised: bool = False  # by an operator


class Finished(NamedTuple):
    """Results that were committed together."""

    ago: float
    lines: int
    tokens: int
    seconds: float  # of latency, summed


class Speed(NamedTuple):
    """What a lane does."""

    rate: float  # tokens a second
    pace: float  # seconds a token in one slot


class Forecast(NamedTuple):
    """When a batch's part of a lane should end, and what comes before it."""

    seconds: float
    before: int  # batches of its own tenant that are claimed first
    share: float  # of the lane, that its tenant has now


def speed(recent: Sequence[Finished], slots: int, busy: float | None, usual: float) -> Speed | None:
    """How fast a lane is, by its latest results (newest first); None when nobody knows.

    Their rate counts only over the last `busy` seconds, in which more lines waited than the lane has slots: before,
    it may have had too little to do. Else it is slots by pace, and without any result the `usual` pace of others.
    """
    run = _latest_run(recent)
    tokens = sum(group.tokens for group in run)
    pace = sum(group.seconds for group in run) / tokens if tokens else usual
    if not pace or not slots:
        return None
    kept = [group for group in run if busy is not None and group.ago <= busy]
    counted = [group for group in kept if group.ago < kept[-1].ago]  # the oldest only says when the others began
    if sum(group.lines for group in counted) < ENOUGH:
        return Speed(slots / pace, pace)
    until = kept[0].ago if kept[0].ago < _idle(kept[0]) else 0.0  # stuck: it gets slower by the second
    return Speed(sum(group.tokens for group in counted) / (kept[-1].ago - until) or slots / pace, pace)


def _latest_run(recent: Sequence[Finished]) -> list[Finished]:
    """The latest results up to a pause, as many as count."""
    run: list[Finished] = []
    lines = 0
    for group in recent:
        aged = run and lines > 2 * ENOUGH and group.ago > run[0].ago + LATELY
        if aged or (run and group.ago - run[-1].ago > _idle(run[-1])):
            break
        run.append(group)
        lines += group.lines
    return run


def _idle(group: Finished) -> float:
    return IDLE_LATENCIES * group.seconds / max(1, group.lines) + IDLE_SECONDS


def forecasts(
    works: Sequence[Work], slots: int, lane: Speed, served: Mapping[int, float], newest: float
) -> dict[int, Forecast]:
    """A lane's batches. `served` and `newest` are where tenants stand, as scheduling.virtual_times takes them.

    Foreseen without regard to deadlines first. Who would miss one is given what urgency gives, and so ends when the
    scheduler wants it to, unless even that is too late.
    """

    def foreseen(seconds_left: Callable[[Work], float]) -> dict[int, Forecast]:
        some = [work._replace(seconds_left=seconds_left(work)) for work in works]
        return _foreseen(some, Load(slots, lane.pace), lane.rate, (served, newest))

    calm = foreseen(lambda work: inf)
    late = {work.batch: calm[work.batch].seconds > work.seconds_left - MARGIN for work in works}
    if not any(late.values()):
        return calm
    found = foreseen(lambda work: work.seconds_left - EVER if late[work.batch] else inf)
    for work in works:
        if late[work.batch]:
            known = found[work.batch]
            likely = sorted((known.seconds, work.seconds_left - MARGIN, calm[work.batch].seconds))[1]
            found[work.batch] = known._replace(seconds=likely)
    return found


def _foreseen(
    works: Sequence[Work], load: Load, rate: float, stand: tuple[Mapping[int, float], float]
) -> dict[int, Forecast]:
    in_hand = sum(work.left - work.open for work in works)
    queues = Queues([work for work in works if work.open > 0], load, stand)
    standing = queues.standing()
    claims = queues.last_claims(rate)
    found = {}
    for work in works:
        latency = work.line * load.pace
        if work.batch in claims:
            after = claims[work.batch] + (in_hand + work.last) / rate
            found[work.batch] = Forecast(max(after, latency), *standing[work.batch])
        else:  # the lane sends its last slice now, or behind others that are in hand
            begun = work.left < work.last
            after = work.left / rate if begun else max((work.left + in_hand) / 2 / rate, latency)
            found[work.batch] = Forecast(after, 0, 1.0)
    return found


class Queues:
    """The open slices of each tenant's batches, claimed one after another in virtual time."""

    def __init__(self, works: Sequence[Work], load: Load, stand: tuple[Mapping[int, float], float]) -> None:
        self._load, self._now, self._changes = load, 0.0, 0
        some = [_candidate(work, work.left, 0.0) for work in works]
        self._weights = weights(some, load)
        stands = virtual_times(some, self._weights, *stand)
        first = min(stands.values(), default=0.0)
        self._debt = {tenant: place - first for tenant, place in stands.items()}  # of virtual time: others come first
        places = {first.batch: place for place, first in enumerate(urgent(some, load))}
        self._urgent = set(places)
        self._queues: dict[int, list[Work]] = {}  # the first is last
        for work in sorted(works, key=lambda work: (-places.get(work.batch, len(places)), -work.batch)):
            self._queues.setdefault(work.tenant, []).append(work)
        self._left = {tenant: queue[-1].open for tenant, queue in self._queues.items()}  # of the first
        self._claimed = dict.fromkeys(self._queues, 0.0)

    def standing(self) -> dict[int, tuple[int, float]]:
        """For each batch, how many of its tenant's are before it, and the tenant's share."""
        total = sum(self._weights.values())
        return {
            work.batch: (place, self._weights[tenant] / total)
            for tenant, queue in self._queues.items()
            for place, work in enumerate(reversed(queue))
        }

    def last_claims(self, rate: float) -> dict[int, float]:
        """Seconds until the last open slice of each batch is claimed. Empties the queues."""
        found: dict[int, float] = {}
        while self._queues:
            served = [tenant for tenant in self._queues if self._debt[tenant] <= 0]
            pace = sum(self._weights[tenant] for tenant in served) / rate  # seconds a unit of virtual time
            ends = {tenant: self._left[tenant] / self._weights[tenant] for tenant in served}
            step = min([*ends.values(), *(self._debt[tenant] for tenant in self._queues if self._debt[tenant] > 0)])
            for tenant in served:
                first, weight = self._queues[tenant][-1], self._weights[tenant]
                needed = max(0.0, self._left[tenant] - first.last) / weight
                if first.batch not in found and needed <= step * ROUNDING:
                    found[first.batch] = self._now + needed * pace + self._rounds(tenant, needed) / rate
            self._now += step * pace
            for tenant in served:
                self._left[tenant] -= step * self._weights[tenant]
                self._claimed[tenant] += step * self._weights[tenant]
            self._debt = {tenant: debt - step for tenant, debt in self._debt.items()}
            self._drop_first([tenant for tenant in served if ends[tenant] <= step * ROUNDING])
        return found

    def _rounds(self, tenant: int, step: float) -> float:
        """Work that others have claimed by then beyond their share: slices are claimed whole, at their beginning."""
        own, found = self._queues[tenant][-1], 0.0
        for other, queue in self._queues.items():
            debt = self._debt[other] - step
            if other == tenant or debt > step * (ROUNDING - 1):
                continue
            first = queue[-1]
            claimed = self._claimed[other] + step * self._weights[other] * (self._debt[other] <= 0)
            earlier = (not first.reserved, first.batch) < (not own.reserved, own.batch)  # of those that stand alike
            slices = claimed / first.last
            whole = floor(slices * ROUNDING) + 1 if earlier else ceil(slices / ROUNDING)
            found += min(whole * first.last - claimed, self._left[other])
        return found

    def _drop_first(self, ended: list[int]) -> None:
        """Their first batches are claimed whole. Every step ends one or pays a debt, so that there is a last step."""
        changed = False
        for tenant in ended:
            first = self._queues[tenant].pop()
            changed = changed or first.batch in self._urgent or not self._queues[tenant]
            if self._queues[tenant]:
                self._left[tenant] = self._queues[tenant][-1].open
            else:
                del self._queues[tenant]
        if changed and self._queues and self._changes < FORESEEN:
            self._changes += 1
            self._weights = weights(list(self._candidates()), self._load)

    def _candidates(self) -> Iterator[Candidate]:
        for tenant, queue in self._queues.items():
            for work in queue[:-1]:
                yield _candidate(work, work.left, self._now)
            yield _candidate(queue[-1], self._left[tenant], self._now)


def _candidate(work: Work, left: float, later: float) -> Candidate:
    person = (work.batch, work.tenant, work.weight, work.reserved)
    return Candidate(*person, int(left), int(work.last), work.seconds_left - later, work.raised)


def moved(before: float | None, after: float | None) -> bool:
    """Whether an estimate says something new. Both are seconds from now; None is no estimate."""
    if before is None or after is None:
        return before is not after
    return abs(after - before) > max(MOVED * after, MOVED_SECONDS)
