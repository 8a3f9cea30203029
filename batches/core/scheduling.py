"""Which batch's next slice is claimed. Pure: plain data in, an order out."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

URGENT_SECONDS = 3600.0


class Candidate(NamedTuple):
    """A batch with a slice that can be claimed."""

    batch: int
    tenant: int
    weight: int
    tokens: int  # estimated work of that slice
    seconds_left: float  # to the batch's deadline


def ranked(candidates: Iterable[Candidate], leased_tokens: Mapping[int, int]) -> list[Candidate]:
    """Candidates, the fairest first: those near their deadline, then the tenant with the least work leased by weight.

    `leased_tokens` is each tenant's work in runners' hands now. Within a tenant the oldest batch goes first.
    """

    def key(candidate: Candidate) -> tuple[bool, float, float, int]:
        urgent = candidate.seconds_left < URGENT_SECONDS
        served = leased_tokens.get(candidate.tenant, 0) / max(1, candidate.weight)
        return (not urgent, candidate.seconds_left if urgent else 0.0, served, candidate.batch)

    return sorted(candidates, key=key)
