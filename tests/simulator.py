"""Days of claims in seconds: the scheduler's pure functions against a model server made of arithmetic.

A runner's lane sends lines in the order of their slices, so a slice holds the server for its work / slots, and its last
answer comes one line's latency later. A claim is made when less than `AHEAD` of a latency is left to send.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from batches.core.estimating import Speed, Work, forecasts
from batches.core.scheduling import Candidate, Load, corrected, ranked, virtual_times, weights

HOUR = 3600.0
DAY = 24 * HOUR
LINE_TOKENS = 1000
AHEAD = 1.0


class Person(NamedTuple):
    """A tenant as the scheduler knows it."""

    tenant: int
    weight: int = 1
    reserved: int = 0


@dataclass
class Job:
    """A batch: slices of `size` lines, all alike, each of an estimate and of what it really takes."""

    person: Person
    lines: int
    at: float = 0.0
    deadline: float = DAY
    size: int = 256
    estimate: int = LINE_TOKENS
    real: int = LINE_TOKENS
    number: int = 0
    sent: int = 0
    done: int = 0
    tag: float | None = None
    ended_at: float | None = None
    raised: bool = False

    @property
    def waiting(self) -> int:
        return self.lines - self.sent


class Claimed(NamedTuple):
    """One claim: when it was made, whose it was, its token work, and when its last answer came."""

    at: float
    job: Job
    lines: int
    tokens: int
    end: float


@dataclass
class World:
    """A model with so many slots, of which each does a line of 1,000 tokens in `latency` seconds."""

    slots: int = 256
    latency: float = 10.0
    now: float = 0.0
    jobs: list[Job] = field(default_factory=list)
    claims: list[Claimed] = field(default_factory=list)
    _count: int = 0
    _sent_until: float = 0.0
    _flying: list[Claimed] = field(default_factory=list)

    def add(self, *jobs: Job) -> None:
        for job in jobs:
            self._count += 1
            job.number = self._count
            job.deadline += job.at
            self.jobs.append(job)

    def run(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Claim whenever the server runs low, until a moment or until `stop`."""
        while self.now < until and not stop():
            self._land()
            if self._sent_until - self.now < AHEAD * self.latency and self._claim():
                continue
            self.now = min([moment for moment in self._moments(until) if moment > self.now])
        self._land()

    def served(self, person: Person, since: float = 0.0, until: float = float("inf")) -> int:
        """Token work of the claims made for a tenant in a span."""
        return sum(some.tokens for some in self.claims if some.job.person == person and since <= some.at < until)

    def share(self, person: Person, since: float = 0.0, until: float = float("inf")) -> float:
        return self.served(person, since, until) / sum(some.tokens for some in self.claims if since <= some.at < until)

    def longest_gap(self, person: Person, since: float, until: float) -> float:
        """The longest time between two claims of a tenant."""
        moments = [since, *(some.at for some in self.claims if some.job.person == person and since <= some.at < until)]
        return max(later - earlier for earlier, later in zip(moments, [*moments[1:], until], strict=True))

    def finished(self, job: Job) -> float:
        """Lines with a result: those of a slice come one after another, as they were sent."""
        found = float(job.done)
        for some in self._flying:
            if some.job is job:
                seconds = self.latency * job.real / LINE_TOKENS * some.lines / self.slots
                found += some.lines * min(max(1 - (some.end - self.now) / seconds, 0.0), 1.0)
        return found

    def estimates(self) -> dict[int, float]:
        """Seconds until the end of each batch that is here, as estimating.py tells them from what a database knows."""
        here = [job for job in self.jobs if job.at <= self.now]
        pace = self.latency / LINE_TOKENS
        tags: dict[int, float] = {}
        for job in here:
            if job.tag is not None:
                tags[job.person.tenant] = max(tags.get(job.person.tenant, job.tag), job.tag)
        waiting = {job.person.tenant for job in here if job.waiting}
        served = {tenant: tag for tenant, tag in tags.items() if tenant in waiting}
        lane = Speed(self.slots / pace, pace)
        works = [self._work(job) for job in here]
        found = forecasts(works, self.slots, lane, served, max(tags.values(), default=0.0))
        return {batch: forecast.seconds for batch, forecast in found.items()}

    def _work(self, job: Job) -> Work:
        done = self.finished(job)
        line = corrected(job.estimate, 1, int(done), int(done * job.real))
        last = line * min(job.size, job.waiting or job.lines)
        left, waiting = (job.lines - done) * line, job.waiting * line
        return Work(job.number, *job.person, left, waiting, last, line, job.deadline - self.now, job.raised)

    def _moments(self, until: float) -> list[float]:
        moments = [until, self._sent_until - AHEAD * self.latency + 1e-6]
        moments += [some.end for some in self._flying]
        moments += [job.at for job in self.jobs]
        return moments

    def _land(self) -> None:
        for some in [some for some in self._flying if some.end <= self.now]:
            self._flying.remove(some)
            some.job.done += some.lines
            if some.job.done == some.job.lines:
                some.job.ended_at = some.end
                self.jobs.remove(some.job)  # and with it its tags, as the rows go with the batch

    def _claim(self) -> bool:
        here = [job for job in self.jobs if job.at <= self.now]
        waiting = {job.number: job for job in here if job.waiting}
        if not waiting:
            return False
        candidates = [self._candidate(job) for job in waiting.values()]
        load = Load(self.slots, self.latency / LINE_TOKENS)
        weight = weights(candidates, load)
        served: dict[int, float] = {}
        for job in here:
            if job.tag is not None:
                served[job.person.tenant] = max(served.get(job.person.tenant, job.tag), job.tag)
        known = {tenant: tag for tenant, tag in served.items() if tenant in weight}
        virtual = virtual_times(candidates, weight, known, max(served.values(), default=0.0))
        best = ranked(candidates, load, virtual)[0]
        self._take(waiting[best.batch], virtual[best.tenant], weight[best.tenant])
        return True

    def _candidate(self, job: Job) -> Candidate:
        work = (job.lines - job.done) * job.estimate
        largest = min(job.size, job.lines) * job.estimate
        person = job.person
        left = job.deadline - self.now
        return Candidate(job.number, person.tenant, person.weight, person.reserved, work, largest, left, job.raised)

    def _take(self, job: Job, virtual: float, weight: float) -> None:
        lines = min(job.size, job.waiting)
        tokens = lines * job.real
        job.tag = virtual + corrected(lines * job.estimate, lines, job.done, job.done * job.real) / weight
        job.sent += lines
        latency = self.latency * job.real / LINE_TOKENS
        self._sent_until = max(self._sent_until, self.now) + latency * lines / self.slots
        claimed = Claimed(self.now, job, lines, tokens, self._sent_until + latency)
        self.claims.append(claimed)
        self._flying.append(claimed)
