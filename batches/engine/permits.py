"""In-flight permits: an upstream's slots, leased to runners so that their sum never exceeds its limit."""

from django.db import transaction

from batches import clock
from batches.core.limiting import Holding, grant
from batches.models import Permit, Runner, Upstream


def settle(runner: Runner, upstream: int, wanted: int, busy: int) -> int:
    """Ask for `wanted` slots while `busy` are in flight; returns how many this runner may use from now on.

    The upstream's row is the lock: grants are decided one after another.
    """
    with transaction.atomic():
        row = Upstream.objects.select_for_update(no_key=True).filter(pk=upstream).first()
        if row is None:
            return 0
        total = row.max_in_flight if row.enabled else 0
        permits = Permit.objects.filter(upstream=row)
        mine = permits.filter(runner=runner).first()
        live = permits.filter(runner__lease_until__gt=clock.now()).exclude(runner=runner)
        others = [Holding(slots, want) for slots, want in live.values_list("slots", "wanted")]
        held = mine.slots if mine else 0
        slots = grant(total, Holding(held, wanted), busy, others)
        if mine is None or (mine.slots, mine.wanted) != (slots, wanted):
            permits.update_or_create(upstream=row, runner=runner, defaults={"slots": slots, "wanted": wanted})
    return slots
