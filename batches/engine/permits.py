"""In-flight permits: an upstream's slots, leased to runners so that their sum never exceeds its limit."""

from django.db import transaction
from django.db.models import Q

from batches import clock
from batches.core.limiting import Granted, Holding, grant
from batches.models import Permit, Runner, Upstream

NOTHING = Granted(0, 0)


def settle(runner: Runner, upstream: int, wanted: int, busy: int) -> Granted:
    """Ask for `wanted` slots while `busy` are in flight. The upstream's row is the lock: one grant after another."""
    with transaction.atomic():
        row = Upstream.objects.select_for_update(no_key=True).filter(pk=upstream).first()
        if row is None:
            return NOTHING
        total = row.max_in_flight if row.enabled else 0
        Permit.objects.get_or_create(upstream=row, runner=runner)
        live = Permit.objects.filter(Q(runner__lease_until__gt=clock.now()) | Q(runner=runner), upstream=row)
        permits = list(live.order_by("runner_id"))
        index = next((place for place, permit in enumerate(permits) if permit.runner_id == runner.pk), None)
        if index is None:  # buried a moment ago
            return NOTHING
        mine, holdings = permits[index], [Holding(permit.slots, permit.wanted) for permit in permits]
        holdings[index] = Holding(mine.slots, wanted)
        granted = grant(total, holdings, index, busy)
        if (mine.slots, mine.wanted) != (granted.slots, wanted):
            Permit.objects.filter(pk=mine.pk).update(slots=granted.slots, wanted=wanted)
    return granted
