"""What would come of a file if it were submitted now: its bad lines, tokens, cost, expected end. Nothing is stored.

The same reading and planning as validation.py's, so that the verdict is the one that the batch would get.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from batches import enqueued, expecting, objects, reserving
from batches.core import bounds, planning
from batches.core.requests import BYTES_PER_TOKEN, Fault, Request
from batches.expecting import Expected
from batches.findings import Findings
from batches.intake import WINDOW
from batches.validation import MISSING, Checks, reachable_models, read, whole_fault
from billing import money, prices
from tenants import clock
from tenants.errors import busy
from tenants.models import Tenant

AT_ONCE = 2  # in this process: each keeps a core busy for as long as a validation does
PATIENCE = 2.0  # seconds for a place
COUNTS = ("lines", "unlimited", "input", "low", "high")
_places = threading.BoundedSemaphore(AT_ONCE)


class Cost(NamedTuple):
    """Pico-USD at the batch prices in force now."""

    low: int
    high: int
    discounts: frozenset[int]  # percent of the standard price, of the models


@dataclass
class Work(bounds.Work):
    """What lines that can run ask for, and what that costs."""

    cost: Cost | None = None  # none where no price is set


@dataclass
class Report:
    """What was found. `shared` of `prompts` bytes stand in the prompt that is sent just before, too."""

    at: datetime
    findings: Findings = field(default_factory=Findings)
    starts: bool = False  # a batch would, as far as the file goes
    refused: Fault | None = None  # its tenant's limits would not let it
    reserved: int = 0  # pico-USD that it may cost, held while it runs
    total: int = 0  # lines that are not blank
    models: dict[str, Work] = field(default_factory=dict)
    prompts: int = 0
    shared: int = 0
    expected: Expected = field(default_factory=lambda: Expected(None, ""))

    @property
    def bad(self) -> int:
        return self.total - sum(work.lines for work in self.models.values())

    def take(self, request: Request) -> None:
        self.models.setdefault(request.model, Work()).add(request)
        self.prompts += len(request.prefix)

    @property
    def all(self) -> Work:
        """All models together; the cost is that of those with a price."""
        works = self.models.values()
        costs = [work.cost for work in works if work.cost is not None]
        discounts = frozenset[int]().union(*(one.discounts for one in costs))
        cost = Cost(sum(one.low for one in costs), sum(one.high for one in costs), discounts) if costs else None
        sums = {name: sum(getattr(work, name) for work in works) for name in COUNTS}
        return Work(**sums, cost=cost)

    @property
    def shared_tokens(self) -> int:
        return self.shared // BYTES_PER_TOKEN


class Asked(NamedTuple):
    """Of the batch."""

    endpoint: str
    skips: bool  # bad lines, or fails with them
    max_cost: int | None = None  # pico-USD


def examine(tenant: Tenant, key: str, lines: int, asked: Asked) -> Report:
    """Look at a stored file of so many lines, which is bad as a whole or read to its end.

    Raises Refused 503 when enough others are being looked at in this process.
    """
    report = Report(clock.now(), total=lines)
    with _place():
        try:
            with objects.local(key) as path:
                _examine(report, tenant, path, asked)
        except FileNotFoundError:
            report.findings.add(None, MISSING)
    return report


@contextmanager
def _place() -> Iterator[None]:
    if not _places.acquire(timeout=PATIENCE):
        raise busy()
    try:
        yield
    finally:
        _places.release()


def _examine(report: Report, tenant: Tenant, path: Path, asked: Asked) -> None:
    if fault := whole_fault(path, report.total):
        report.findings.add(None, fault)
        return
    slots = reachable_models(tenant.pk)
    columns = read(path, Checks(asked.endpoint, set(slots)), report.findings, good=report.take)
    report.starts = asked.skips or not report.findings.counts
    cuts = list(planning.cut(columns, planning.order(columns), slots))
    report.shared = planning.shared_bytes(columns, cuts)
    for model, rates in prices.priced_at(tenant.pk, report.models, report.at).items():
        report.models[model].cost = _cost(report.models[model], rates)
    if report.starts:
        report.refused = _refusal(report, tenant, sum(cut.tokens for cut in cuts), asked.max_cost)
    if report.starts and cuts:
        report.expected = expecting.foresee(tenant, cuts, WINDOW)


def _refusal(report: Report, tenant: Tenant, tokens: int, max_cost: int | None) -> Fault | None:
    """By the limits as they are now; others may start first."""
    rates = prices.rates_at(tenant.pk, report.models, report.at)
    most = reserving.most(report.models, rates, max_cost)
    report.reserved = most
    return enqueued.shortage(tenant, tokens) or reserving.shortage(tenant.pk, most)


def _cost(work: Work, rates: money.Rates) -> Cost:
    """From all of the input in a prefix cache and the fewest tokens, to none of it and the most."""
    lowest = [money.cost(rates, work.input, cached, work.low) for cached in (0, work.input)]
    return Cost(min(lowest), money.most(rates, work.input, work.high), frozenset({rates.discount}))
