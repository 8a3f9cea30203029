"""Whose slice is next: the urgent, then the tenant that has least in hand for its weight, then the oldest batch."""

from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.core.scheduling import URGENT_SECONDS, Candidate, ranked
from tests.core import searched

DAY = 86_400.0
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        batch=st.integers(1, 1000),
        tenant=st.integers(1, 4),
        weight=st.just(1),
        tokens=st.integers(1, 10**6),
        seconds_left=st.floats(-DAY, DAY),
    ),
    max_size=20,
    unique_by=lambda candidate: candidate.batch,
)
LEASED = st.dictionaries(st.integers(1, 4), st.integers(0, 10**7))


def weighted(candidates: list[Candidate], weights: list[int]) -> list[Candidate]:
    return [candidate._replace(weight=weights[candidate.tenant % len(weights)]) for candidate in candidates]


def patient(candidates: list[Candidate]) -> list[Candidate]:
    """The same with time enough, each another."""
    return [some._replace(seconds_left=URGENT_SECONDS + abs(some.seconds_left)) for some in candidates]


@given(CANDIDATES, LEASED, st.lists(st.integers(1, 10), min_size=1))
@searched
def test_the_ranking_is_every_candidate_once_and_always_the_same(
    candidates: list[Candidate], leased: dict[int, int], weights: list[int]
) -> None:
    some = weighted(candidates, weights)
    found = ranked(some, leased)
    assert sorted(found) == sorted(some)
    assert ranked(reversed(some), leased) == found


@given(CANDIDATES, LEASED)
@searched
def test_the_urgent_go_first_and_the_most_urgent_before_them(
    candidates: list[Candidate], leased: dict[int, int]
) -> None:
    found = ranked(candidates, leased)
    urgent = [candidate.seconds_left for candidate in found if candidate.seconds_left < URGENT_SECONDS]
    assert [candidate.seconds_left for candidate in found[: len(urgent)]] == sorted(urgent)


@given(CANDIDATES, LEASED, st.lists(st.integers(1, 10), min_size=1))
@searched
def test_among_the_patient_the_least_served_for_its_weight_goes_first(
    candidates: list[Candidate], leased: dict[int, int], weights: list[int]
) -> None:
    found = ranked(patient(weighted(candidates, weights)), leased)
    served = [leased.get(candidate.tenant, 0) / candidate.weight for candidate in found]
    assert served == sorted(served)


@given(CANDIDATES, LEASED)
@searched
def test_within_a_tenant_the_oldest_batch_goes_first(candidates: list[Candidate], leased: dict[int, int]) -> None:
    found = ranked(patient(candidates), leased)
    for tenant in {candidate.tenant for candidate in found}:
        own = [candidate.batch for candidate in found if candidate.tenant == tenant]
        assert own == sorted(own)


def test_an_hour_is_the_edge_of_urgency() -> None:
    calm, edge, late = (
        Candidate(1, 1, 1, 100, URGENT_SECONDS + 1),
        Candidate(2, 2, 1, 100, URGENT_SECONDS),
        Candidate(3, 2, 1, 100, URGENT_SECONDS - 0.001),
    )
    assert ranked([calm, edge, late], {2: 10**9}) == [late, calm, edge]


def test_a_deadline_that_has_passed_is_the_most_urgent() -> None:
    assert ranked([Candidate(1, 1, 1, 1, 5.0), Candidate(2, 2, 1, 1, -5.0)], {})[0].batch == 2


def test_a_weight_of_zero_is_no_division_by_zero() -> None:
    assert ranked([Candidate(1, 1, 0, 1, DAY)], {1: 5}) == [Candidate(1, 1, 0, 1, DAY)]


def in_hand(candidates: list[Candidate], steps: int = 400, window: int = 80) -> Counter[int]:
    """Claim again and again, at most `window` slices in runners' hands, the oldest done first: claims by tenant."""
    leased: Counter[int] = Counter()
    hands: deque[Candidate] = deque()
    claims: Counter[int] = Counter()
    for _ in range(steps):
        if len(hands) == window:
            done = hands.popleft()
            leased[done.tenant] -= done.tokens
        best = ranked(candidates, leased)[0]
        hands.append(best)
        leased[best.tenant] += best.tokens
        claims[best.tenant] += 1
    return claims


@pytest.mark.parametrize(("light", "heavy"), [(1, 1), (1, 3), (2, 3), (1, 9)])
def test_work_in_hand_is_shared_by_weight(light: int, heavy: int) -> None:
    claims = in_hand([Candidate(1, 1, light, 100, DAY), Candidate(2, 2, heavy, 100, DAY)])
    assert claims[2] / claims[1] == pytest.approx(heavy / light, rel=0.1)


def test_many_batches_win_a_tenant_nothing() -> None:
    crowd = [Candidate(batch, 1, 1, 100, DAY) for batch in range(1, 11)]
    claims = in_hand([*crowd, Candidate(99, 2, 1, 100, DAY)])
    assert claims[2] == pytest.approx(claims[1], rel=0.1)


def test_heavy_slices_win_a_tenant_nothing() -> None:
    claims = in_hand([Candidate(1, 1, 1, 1000, DAY), Candidate(2, 2, 1, 100, DAY)])
    assert claims[2] / claims[1] == pytest.approx(10, rel=0.2)


def test_a_small_batch_that_comes_later_is_next() -> None:
    whale, minnow = Candidate(1, 1, 1, 10**6, DAY), Candidate(2, 2, 1, 100, DAY)
    assert ranked([whale, minnow], {1: 10**6})[0] == minnow
