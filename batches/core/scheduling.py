"""Which batch's next slice is claimed. Pure: plain data in, an order out. docs/decisions/0009-virtual-time.md

The tenant with the least virtual time (token work by weight) is next. Entitlements are weights, so that they hold over
time and not only at one moment: a reservation is a floor under a tenant's share, and the tenant of the most urgent
batch has half. Urgent are batches in danger and, behind all of them, those that an operator raised. Within a tenant:
urgent batches, the oldest batch, and the order of its slices.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf, nextafter
from typing import NamedTuple

URGENT_SECONDS = 3600.0  # left: in danger, while nobody knows how fast the model is
SAFETY = 1.25  # how much longer than expected the work of a batch may take
MARGIN = 900.0  # seconds before the deadline at which it should be done: an attempt may last 600
LAG = 8  # slices that a tenant may be behind the others: more it lost by its own absence
FAMILIAR = 32  # completed lines, before a batch's mean says more than the estimate
TRUST = 8.0  # times that a mean may differ from the estimate
SHARED_FLOOR = 0.1  # of the slots, for tenants without a reservation, whatever is reserved


class Candidate(NamedTuple):
    """A batch with a slice that can be claimed."""

    batch: int
    tenant: int
    weight: int
    reserved: int  # slots
    work: int  # estimated tokens that have no result yet
    largest: int  # estimated tokens of its largest slice
    seconds_left: float  # to the batch's deadline
    raised: bool = False  # by an operator


class Load(NamedTuple):
    """What is known of the model."""

    slots: int
    pace: float  # seconds a token in one slot; 0 when nobody knows yet


def ranked(candidates: Iterable[Candidate], load: Load, virtual: Mapping[int, float]) -> list[Candidate]:
    """Candidates, the one to claim from first. `virtual` is where each tenant stands: see `virtual_times`."""
    some = list(candidates)
    places = {candidate.batch: place for place, candidate in enumerate(urgent(some, load))}

    def key(candidate: Candidate) -> tuple[float, bool, int, int]:
        urgency = places.get(candidate.batch, len(places))
        return (virtual[candidate.tenant], not candidate.reserved, urgency, candidate.batch)

    return sorted(some, key=key)


def in_danger(candidates: Iterable[Candidate], load: Load) -> list[Candidate]:
    """Batches that would miss their deadline on half of the slots, behind those due before; nearest deadline first."""
    found, ahead = [], 0
    half = max(1, load.slots) / 2
    for candidate in sorted(candidates, key=lambda some: (some.seconds_left, some.batch)):
        ahead += candidate.work
        needed = SAFETY * ahead * load.pace / half + MARGIN if load.pace else URGENT_SECONDS
        if candidate.seconds_left < needed:
            found.append(candidate)
    return found


def urgent(candidates: Iterable[Candidate], load: Load) -> list[Candidate]:
    """Batches in danger, and behind them those that were raised; of each the nearest deadline first."""
    some = list(candidates)
    danger = in_danger(some, load)
    late = {candidate.batch for candidate in danger}
    raised = [candidate for candidate in some if candidate.raised and candidate.batch not in late]
    return danger + sorted(raised, key=lambda some: (some.seconds_left, some.batch))


def weights(candidates: Sequence[Candidate], load: Load) -> dict[int, float]:
    """Each tenant's weight, raised to what its reserved slots and the most urgent batch entitle it to.

    The tenant of the most urgent batch weighs as much as all others: half. Then the others' reservations are slots of
    the other half, so that they stay what they are.
    """
    found = {some.tenant: float(max(1, some.weight)) for some in candidates}
    reserved = {some.tenant: some.reserved for some in candidates if some.reserved}
    first = next((some.tenant for some in urgent(candidates, load)), None)
    if reserved and load.slots:
        slots = load.slots / (1 if first is None else 2)
        shared = sum(weight for tenant, weight in found.items() if tenant not in reserved) or 1.0
        left = max(slots - sum(reserved.values()), slots * SHARED_FLOOR)
        found |= {tenant: max(found[tenant], kept * shared / left) for tenant, kept in reserved.items()}
    if first is not None:
        found[first] = max(found[first], sum(weight for tenant, weight in found.items() if tenant != first))
    return found


def virtual_times(
    candidates: Sequence[Candidate], weight: Mapping[int, float], served: Mapping[int, float], newest: float
) -> dict[int, float]:
    """Where each tenant stands. `served` is its last tag; one without a tag stands just before the least served.

    Nobody is more than LAG slices behind the first: who was away (suspended, no line due) gets no arrears.
    `newest` is where one stands when no tenant of these has a tag.
    """
    start = nextafter(min(served.values(), default=newest), -inf)
    lag = LAG * max((some.largest / weight[some.tenant] for some in candidates), default=0.0)
    floor = max(served.values(), default=newest) - lag
    return {some.tenant: max(served.get(some.tenant, start), floor) for some in candidates}


def corrected(estimate: int, lines: int, completed: int, used: int) -> float:
    """A slice's token work: its estimate, or what the batch's completed lines used on the mean once that is known."""
    if completed < FAMILIAR:
        return float(estimate)
    return min(max(used / completed * lines, estimate / TRUST), estimate * TRUST)
