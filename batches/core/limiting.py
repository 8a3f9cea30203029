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


def grant(total: int, mine: Holding, busy: int, others: Sequence[Holding]) -> int:
    """Slots for this runner now, so that the sum never exceeds `total`.

    It shrinks to its share, but not below what it has in flight (`busy`); it grows only by what nobody holds.
    """
    share = fair_share([mine.wanted, *(other.wanted for other in others)], total)[0]
    if share <= mine.slots:
        return max(share, min(busy, mine.slots))
    free = total - mine.slots - sum(other.slots for other in others)
    return mine.slots + min(share - mine.slots, max(free, 0))
