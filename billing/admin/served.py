"""What the pages of prices ask of the rooms above, which know upstreams and batches."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from billing import prices
from tenants import clock


class Above(NamedTuple):
    """Who answers: models that have a server, and how many batches run at the prices that they began with."""

    models: Callable[[], Iterable[str]]
    of_model: Callable[[str], int]
    of_tenant: Callable[[int], int]


answers: list[Above] = []  # who is there adds itself


def unpriced() -> list[str]:
    """Models that have a server and no price: their batches are free."""
    served = {model for above in answers for model in above.models()}
    return sorted(served - set(prices.in_force(served, clock.now())))


def has_server(model: str) -> bool:
    """Or nobody knows."""
    return not answers or any(model in set(above.models()) for above in answers)
