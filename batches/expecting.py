"""When batches should end, and what those wait for that could go faster: kept in their rows, for readers to read.

A few queries for all batches that are being run; any number of processes may do it at once. The arithmetic is
core/estimating.py. docs/decisions/0012-expected-ends.md
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import transaction
from django.db.models import Count, F, Max, Q, Sum

from batches.core import caps, states
from batches.core.estimating import Finished, Forecast, Work, forecasts, moved, speed
from batches.core.planning import Cut
from batches.core.scheduling import MARGIN, URGENT_SECONDS, corrected
from batches.core.states import Status
from batches.models import Batch, Result, Slice, Upstream
from tenants import clock, scope
from tenants.models import Tenant

RECENT = 4096  # latest results that say how fast lanes are
STALE = timedelta(seconds=60)  # after its rest: an upstream that no runner has tried since counts as well again
LAST = 1 << 62  # in place of the key of a batch that is not stored
FAR = 366 * 86_400.0  # seconds: what stands almost still is not reckoned any further
COLUMNS = (
    "tenant", "deadline", "in_progress_at", "model", "total", "completed", "failed", "input_tokens", "output_tokens",
    "expected_at", "waiting_reason", "paused_reason", "raised", "tenant__weight",
    "tenant__reserved_slots", "tenant__suspended",
)  # fmt: skip

Key = tuple[str, int | None]  # model, tenant of dedicated upstreams
SUSPENDED = "tenant_suspended: The tenant is suspended: nothing is sent until it is resumed."
BEHIND = "behind_others"
RETRY = "retry_later: The upstream asked for a pause: every line left waits for it to pass."


class Part(NamedTuple):
    """A batch's slices for one model that are not done, and those of them that nobody holds."""

    model: str
    lines: int
    tokens: int  # estimated
    open_lines: int
    open_tokens: int
    largest: int  # tokens of the largest that nobody holds; when they are all held, of all
    waits_until: datetime | None  # all of them wait, the last one until then


@dataclass
class Lane:
    """What serves a model, for everybody or for one tenant, and whom it serves now."""

    upstreams: list[int] = field(default_factory=list)
    slots: int = 0  # of the upstreams that can be used
    works: list[Work] = field(default_factory=list)
    busy: float | None = None  # seconds for which more lines waited than there are slots
    ends: dict[int, Forecast] = field(default_factory=dict)


class Expected(NamedTuple):
    """What a batch's row should say."""

    at: datetime | None
    reason: str


def at_risk(now: datetime) -> Q:
    """Batches that should end after their deadline or just before it; where nobody can tell, those due soon."""
    late = Q(expected_at__gt=F("deadline") - timedelta(seconds=MARGIN))
    unknown = Q(expected_at=None, deadline__lt=now + timedelta(seconds=URGENT_SECONDS))
    return Q(status__in=states.before(Status.EXPIRING)) & (late | unknown)


def refresh() -> None:
    """Work out anew every batch that is being run, and write what has changed enough to matter."""
    now = clock.now()
    parts = _parts(now)
    if parts:
        served = _served(_running(parts), parts, now)
        _write([batch for batch, mine in served if _changes(batch, _expected(batch, mine, now), now)])


def foresee(tenant: Tenant, cuts: Iterable[Cut], window: timedelta) -> Expected:
    """What a batch of these slices would expect if it started now, the last of all. Nothing is written."""
    now = clock.now()
    of_model: dict[str, list[Cut]] = defaultdict(list)
    for cut in cuts:
        of_model[cut.model].append(cut)
    with scope.every():  # it waits for what others run; they are told by nothing but the moment that comes of it
        return _foreseen(tenant, of_model, now, window)


def _foreseen(tenant: Tenant, of_model: dict[str, list[Cut]], now: datetime, window: timedelta) -> Expected:
    parts = _parts(now)
    running = _running(parts)
    parts[LAST] = [_unheld(model, some) for model, some in of_model.items()]
    batch = Batch(pk=LAST, tenant=tenant, deadline=now + window, in_progress_at=now)
    batch.total = sum(part.lines for part in parts[LAST])
    batch, mine = _served([*running, batch], parts, now)[-1]
    return _expected(batch, mine, now)


def _unheld(model: str, cuts: list[Cut]) -> Part:
    lines, tokens = sum(len(cut.lines) for cut in cuts), sum(cut.tokens for cut in cuts)
    return Part(model, lines, tokens, lines, tokens, max(cut.tokens for cut in cuts), None)


def _running(parts: Iterable[int]) -> list[Batch]:
    running = Batch.objects.filter(pk__in=parts, status=Status.IN_PROGRESS).select_related("tenant")
    return list(running.only(*COLUMNS).order_by("pk"))


def _served(
    batches: Iterable[Batch], parts: Mapping[int, list[Part]], now: datetime
) -> list[tuple[Batch, list[tuple[Part, Lane]]]]:
    """Each batch with its parts and the lanes that serve them, whose ends are foreseen."""
    lanes, dedicated = _lanes(now)
    served: list[tuple[Batch, list[tuple[Part, Lane]]]] = []
    for batch in batches:
        keys = {part: _key(part.model, batch.tenant_id, dedicated) for part in parts[batch.pk]}
        served.append((batch, [(part, lanes[key]) for part, key in keys.items()]))
        if not _halted(batch):
            _queue(batch, served[-1][1], now)
    _foresee(lanes, now)
    return served


def _parts(now: datetime) -> dict[int, list[Part]]:
    unheld = Q(state=Slice.State.WAITING)
    rows = (
        Slice.objects.filter(state__lt=Slice.State.DONE, batch__status=Status.IN_PROGRESS)
        .values_list("batch_id", "model")
        .annotate(all_lines=Sum("lines"), work=Sum("tokens"), largest=Max("tokens"), waits_until=Max("not_before"))
        .annotate(ready=Count("pk", filter=Q(not_before=None) | Q(not_before__lte=now)))
        .annotate(open_lines=Sum("lines", filter=unheld, default=0), open_work=Sum("tokens", filter=unheld, default=0))
        .annotate(largest_open=Max("tokens", filter=unheld))
    )
    found: dict[int, list[Part]] = defaultdict(list)
    for batch, model, lines, work, largest, waits_until, ready, open_lines, open_work, largest_open in rows:
        until = None if ready else waits_until
        found[batch].append(Part(model, lines, work, open_lines, open_work, largest_open or largest, until))
    return found


def _key(model: str, tenant: int, dedicated: set[Key]) -> Key:
    own = (model, tenant)
    return own if own in dedicated else (model, None)


def rests(cooling_until: datetime | None, now: datetime) -> bool:
    """Whether an upstream failed, and has not answered since."""
    return cooling_until is not None and cooling_until >= now - STALE


def _lanes(now: datetime) -> tuple[dict[Key, Lane], set[Key]]:
    """What can be used of each lane; and which lanes are a tenant's own, whether they can be used or not."""
    lanes: dict[Key, Lane] = defaultdict(Lane)
    dedicated: set[Key] = set()
    rows = Upstream.objects.values_list("pk", "model", "tenant_id", "enabled", "max_in_flight", "cooling_until")
    for pk, model, tenant, enabled, slots, cooling_until in rows:
        if tenant is not None:
            dedicated.add((model, tenant))
        if enabled and not rests(cooling_until, now):
            lanes[model, tenant].upstreams.append(pk)
            lanes[model, tenant].slots += slots
    return lanes, dedicated


def _halted(batch: Batch) -> str:
    """Why nothing of it is sent, whatever its upstreams do; empty when it is run."""
    if batch.paused_reason:
        return caps.waiting_reason(batch.paused_reason)
    return SUSPENDED if batch.tenant.suspended else ""


def _queue(batch: Batch, mine: list[tuple[Part, Lane]], now: datetime) -> None:
    """Enter a batch's work into its lanes. Its counters say what is done of the slices that are held."""
    lines, unheld = sum(part.lines for part, _ in mine), sum(part.open_lines for part, _ in mine)
    left = batch.total - batch.completed - batch.failed
    held = min(max(0.0, (left - unheld) / (lines - unheld)), 1.0) if lines > unheld else 0.0
    used = batch.input_tokens + batch.output_tokens
    for part, lane in mine:
        familiar = batch.completed if batch.model else 0  # a mean over several models says nothing of one
        ratio = corrected(part.tokens, part.lines, familiar, used) / part.tokens if part.tokens else 1.0
        work = Work(
            batch.pk,
            batch.tenant_id,
            batch.tenant.weight,
            batch.tenant.reserved_slots,
            left=(part.open_tokens + (part.tokens - part.open_tokens) * held) * ratio,
            open=part.open_tokens * ratio,
            last=part.largest * ratio,
            line=part.tokens / part.lines * ratio,
            seconds_left=(batch.deadline - now).total_seconds(),
            raised=batch.raised,
        )
        lane.works.append(work)
        if work.open or work.left > lane.slots * work.line:
            started = (now - (batch.in_progress_at or now)).total_seconds()
            lane.busy = max(lane.busy or 0.0, started)


def _foresee(lanes: dict[Key, Lane], now: datetime) -> None:
    recent, usual = _recent(now)
    tags: dict[str, dict[int, float]] = defaultdict(dict)
    tagged = Slice.objects.filter(virtual__isnull=False).values_list("model", "tenant_id")
    for model, tenant, virtual in tagged.annotate(Max("virtual")):
        tags[model][tenant] = virtual
    for (model, _), lane in lanes.items():
        groups = sorted((group for pk in lane.upstreams for group in recent[pk]), key=lambda group: group.ago)
        pace = speed(groups, lane.slots, lane.busy, usual)
        if pace is not None and lane.works:
            waiting = {work.tenant for work in lane.works if work.open}
            served = {tenant: virtual for tenant, virtual in tags[model].items() if tenant in waiting}
            newest = max(tags[model].values(), default=0.0)
            lane.ends = forecasts(lane.works, lane.slots, pace, served, newest)


def _recent(now: datetime) -> tuple[dict[int, list[Finished]], float]:
    """The latest results of each upstream; and the pace of all of them, in seconds a token, 0 without any."""
    newest = Result.objects.aggregate(newest=Max("pk"))["newest"] or 0
    rows = Result.objects.filter(pk__gt=newest - RECENT).values_list("upstream_id", "finished_at")
    sums = (Count("pk"), Sum(F("input_tokens") + F("output_tokens")), Sum("latency_ms"))
    found: dict[int, list[Finished]] = defaultdict(list)
    for upstream, at, lines, tokens, latency in rows.annotate(lines=sums[0], tokens=sums[1], latency=sums[2]):
        found[upstream].append(Finished((now - at).total_seconds(), lines, tokens, latency / 1000))
    groups = [group for some in found.values() for group in some]
    tokens = sum(group.tokens for group in groups)
    return found, sum(group.seconds for group in groups) / tokens if tokens else 0.0


def _expected(batch: Batch, mine: list[tuple[Part, Lane]], now: datetime) -> Expected:
    """The first reason that applies, and the end of the part that ends last. A batch that can't go on has no end."""
    if reason := _halted(batch):
        return Expected(None, reason)
    if down := [part.model for part, lane in mine if not lane.slots]:
        return Expected(None, f"upstream_unavailable: The model {down[0]} has no upstream that can be used now.")
    ends = [lane.ends.get(batch.pk) for _, lane in mine]
    known = [end for end in ends if end is not None]
    last = max(known, default=None)
    at = now + timedelta(seconds=min(last.seconds, FAR)) if last and len(known) == len(ends) else None
    if mine and all(part.waits_until for part, _ in mine):
        return Expected(at and max([at, *(part.waits_until for part, _ in mine if part.waits_until)]), RETRY)
    return Expected(at, _behind(last) if last else "")


def _behind(end: Forecast) -> str:
    others = [f"{end.before} of the tenant's own batches come first"] if end.before else []
    if end.share < 1:
        others.append(f"work of other tenants leaves {max(1, int(end.share * 100))}% of the model")
    text = " and ".join(others)
    return f"{BEHIND}: {text[:1].upper()}{text[1:]}." if text else ""


def _changes(batch: Batch, expected: Expected, now: datetime) -> bool:
    """Take it over into the row's object; whether that is worth a write."""
    before, after = (None if at is None else (at - now).total_seconds() for at in (batch.expected_at, expected.at))
    if batch.waiting_reason == expected.reason and not moved(before, after):
        return False
    batch.expected_at, batch.waiting_reason = expected
    return True


def _write(changed: Iterable[Batch]) -> None:
    """In one go. Locked in the order in which commits lock; what has left in_progress meanwhile is left alone."""
    rows = {batch.pk: batch for batch in changed}
    if not rows:
        return
    with transaction.atomic():
        locked = Batch.objects.select_for_update(no_key=True).filter(pk__in=rows, status=Status.IN_PROGRESS)
        kept = [rows[pk] for pk in locked.order_by("pk").values_list("pk", flat=True)]
        Batch.objects.bulk_update(kept, ["expected_at", "waiting_reason"])
