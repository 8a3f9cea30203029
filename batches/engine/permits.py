"""In-flight permits: an upstream's slots, leased to runners so that their sum never exceeds its limit."""

from typing import NamedTuple

from django.db import transaction
from django.db.models import Q

from batches.core.limiting import Granted, Holding, grant
from batches.models import Permit, Runner, Upstream
from tenants import clock

NOTHING = Granted(0, 0)


class Settlement(NamedTuple):
    """What a runner would have, and whether its row must change for it."""

    permit: int
    granted: Granted
    changes: bool


def settle(runner: Runner, upstream: int, wanted: int, busy: int) -> Granted:
    """Ask for `wanted` slots while `busy` are in flight.

    The upstream's row is the lock: one grant after another. Mostly nothing changes, and no lock is taken to see that.
    """
    seen = Upstream.objects.filter(pk=upstream).defer("api_key").first()
    settlement = _look(runner, seen, wanted, busy) if seen else None
    if settlement and not settlement.changes:
        return settlement.granted
    with transaction.atomic():
        row = Upstream.objects.select_for_update(no_key=True).filter(pk=upstream).defer("api_key").first()
        if row is None:
            return NOTHING
        Permit.objects.get_or_create(upstream=row, runner=runner)
        settlement = _look(runner, row, wanted, busy)
        if settlement is None:  # buried a moment ago
            return NOTHING
        if settlement.changes:
            Permit.objects.filter(pk=settlement.permit).update(slots=settlement.granted.slots, wanted=wanted)
    return settlement.granted


def _look(runner: Runner, row: Upstream, wanted: int, busy: int) -> Settlement | None:
    """What is due to the runner by the permits there are; None when it has none."""
    live = Permit.objects.filter(Q(runner__lease_until__gt=clock.now()) | Q(runner=runner), upstream=row)
    permits = list(live.order_by("runner_id"))
    index = next((place for place, permit in enumerate(permits) if permit.runner_id == runner.pk), None)
    if index is None:
        return None
    mine, holdings = permits[index], [Holding(permit.slots, permit.wanted) for permit in permits]
    holdings[index] = Holding(mine.slots, wanted)
    granted = grant(row.max_in_flight if row.enabled else 0, holdings, index, busy)
    return Settlement(mine.pk, granted, (mine.slots, mine.wanted) != (granted.slots, wanted))
