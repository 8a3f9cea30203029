"""In-flight permits: an upstream's slots, leased to runners so that their sum never exceeds its limit."""

from typing import NamedTuple

from django.db import transaction

from batches import clock
from batches.core.limiting import Holding, fair_share, grant
from batches.models import Permit, Runner, Upstream


class Granted(NamedTuple):
    """What a runner has of an upstream."""

    slots: int  # leased in the database: never fewer than are in flight
    limit: int  # how many may be in flight from now on: fewer, while it gives some back


NOTHING = Granted(0, 0)


def settle(runner: Runner, upstream: int, wanted: int, busy: int) -> Granted:
    """Ask for `wanted` slots while `busy` are in flight. The upstream's row is the lock: one grant after another."""
    with transaction.atomic():
        row = Upstream.objects.select_for_update(no_key=True).filter(pk=upstream).first()
        if row is None:
            return NOTHING
        total = row.max_in_flight if row.enabled else 0
        permits = Permit.objects.filter(upstream=row)
        mine = permits.filter(runner=runner).first()
        live = permits.filter(runner__lease_until__gt=clock.now()).exclude(runner=runner)
        others = [Holding(slots, want) for slots, want in live.values_list("slots", "wanted")]
        held = mine.slots if mine else 0
        slots = grant(total, Holding(held, wanted), busy, others)
        share = fair_share([wanted, *(other.wanted for other in others)], total)[0]
        if mine is None or (mine.slots, mine.wanted) != (slots, wanted):
            permits.update_or_create(upstream=row, runner=runner, defaults={"slots": slots, "wanted": wanted})
    return Granted(slots, min(slots, share))
