"""What waits for each model, and what there is to serve it."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import BigIntegerField, Case, Count, F, Max, Min, Q, Sum, Value, When

from batches import lifecycle
from batches.console.doing import Doing
from batches.core.states import Status
from batches.expecting import Key
from batches.models import Slice


class Lane(NamedTuple):
    """A model, for everybody or for a tenant with upstreams of its own. Lines are those of slices that are not done:
    of one in hand, some may be."""

    model: str
    owner: str = ""  # the tenant's name
    batches: int = 0  # running, paused ones too
    waiting: int = 0  # lines that could be sent
    in_hand: int = 0  # lines that a runner holds
    held: int = 0  # lines of paused batches and suspended tenants
    since: datetime | None = None  # when the first of the waiting batches was begun
    ends: datetime | None = None  # when the last of its batches should end; None: nobody knows
    upstreams: int = 0  # that are on
    slots: int = 0  # of these
    in_flight: int = 0

    @property
    def stranded(self) -> bool:
        """Work waits, and nothing is there to do it."""
        return bool(self.waiting and not self.upstreams)


def lanes(doing: Iterable[Doing]) -> list[Lane]:
    """Those with the most waiting first. One query."""
    doing = list(doing)
    dedicated = {(one.model, one.tenant) for one in doing if one.tenant is not None}
    found: dict[Key, Lane] = defaultdict(lambda: Lane(""))
    for model, tenant, *work in _work({tenant for _, tenant in dedicated}):
        key = (model, tenant if (model, tenant) in dedicated else None)
        found[key] = _with_work(found[key], work)
    for one in doing:
        lane = found[one.model, one.tenant]
        found[one.model, one.tenant] = lane._replace(
            owner=one.owner,
            upstreams=lane.upstreams + one.enabled,
            slots=lane.slots + (one.now.max_in_flight if one.enabled else 0),
            in_flight=lane.in_flight + one.now.in_flight,
        )
    named = [lane._replace(model=model) for (model, _), lane in found.items()]
    return sorted(named, key=lambda lane: (-lane.waiting - lane.in_hand, -lane.batches, lane.model, lane.owner))


def _work(tenants: set[int | None]) -> Iterable[Any]:
    """By model, and by tenant for those alone that have upstreams of their own."""
    unheld, runnable = Q(state=Slice.State.WAITING), lifecycle.runnable("batch__")
    rows = Slice.objects.filter(state__lt=Slice.State.DONE, batch__status=Status.IN_PROGRESS).order_by()
    nobody = Value(None, BigIntegerField())
    owner = Case(When(tenant__in=tenants, then=F("tenant_id")), default=nobody) if tenants else nobody
    return (
        rows.annotate(owner=owner)
        .values_list("model", "owner")
        .annotate(
            Count("batch", distinct=True),
            waiting=Sum("lines", filter=unheld & runnable, default=0),
            in_hand=Sum("lines", filter=Q(state=Slice.State.LEASED), default=0),
            held=Sum("lines", filter=unheld & ~runnable, default=0),
            since=Min("batch__in_progress_at", filter=unheld & runnable),
            ends=Max("batch__expected_at"),
        )
    )


def _with_work(lane: Lane, work: list[Any]) -> Lane:
    """Several tenants' work may be in one lane."""
    *counts, since, ends = work
    batches, waiting, in_hand, held = map(sum, zip(lane[2:6], counts, strict=True))
    return lane._replace(
        batches=batches, waiting=waiting, in_hand=in_hand, held=held,
        since=min(filter(None, (lane.since, since)), default=None),
        ends=max(filter(None, (lane.ends, ends)), default=None),
    )  # fmt: skip
