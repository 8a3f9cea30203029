"""How an upstream's in-flight slots are shared by runners. Pure."""

from collections.abc import Sequence
from typing import NamedTuple


class Holding(NamedTuple):
    """What a live runner holds of an upstream and could use."""

    slots: int
    wanted: int


def fair_share(wants: Sequence[int], total: int) -> list[int]:
    """Divide `total` slots: nobody gets more than it wants, and what one leaves goes to the others (max-min)."""
    shares = [0] * len(wants)
    left = total
    waiting = sorted(range(len(wants)), key=lambda index: wants[index])
    for rank, index in enumerate(waiting):
        shares[index] = min(wants[index], -(-left // (len(waiting) - rank)))
        left -= shares[index]
    return shares


class Granted(NamedTuple):
    """What a runner has of an upstream."""

    slots: int  # leased: never fewer than are in flight
    limit: int  # how many may be in flight from now on: fewer, while it gives some back


def grant(total: int, holdings: Sequence[Holding], index: int, busy: int) -> Granted:
    """What the runner at `index` has from now on, so that the sum of slots never exceeds `total`.

    `holdings` are every live runner's in one stable order, so that all agree on who has the odd slot. It shrinks to
    its share, but not below what it has in flight (`busy`); it grows only by what nobody holds.
    """
    mine = holdings[index]
    share = fair_share([holding.wanted for holding in holdings], total)[index]
    if share <= mine.slots:
        return Granted(max(share, min(busy, mine.slots)), share)
    free = total - sum(holding.slots for holding in holdings)
    slots = mine.slots + min(share - mine.slots, max(free, 0))
    return Granted(slots, slots)
