"""Whose slice is next: the least virtual time, then the batches in danger, then the oldest batch."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.core.scheduling import (
    FAMILIAR,
    LAG,
    MARGIN,
    SAFETY,
    URGENT_SECONDS,
    Candidate,
    Load,
    corrected,
    in_danger,
    ranked,
    urgent,
    virtual_times,
    weights,
)
from tests.core import searched

DAY = 86_400.0
CALM = Load(slots=100, pace=0.0)  # whoever has more than an hour left is not in danger
TENANTS = {1: (1, 0), 2: (3, 0), 3: (1, 20), 4: (2, 50)}  # weight, reserved slots


def candidate(
    batch: int, tenant: int = 1, seconds_left: float = DAY, work: int = 1000, largest: int = 100
) -> Candidate:
    weight, reserved = TENANTS[tenant]
    return Candidate(batch, tenant, weight, reserved, work, largest, seconds_left)


CANDIDATES = st.lists(
    st.builds(
        candidate,
        batch=st.integers(1, 1000),
        tenant=st.integers(1, 4),
        seconds_left=st.floats(-DAY, DAY),
        work=st.integers(1, 10**6),
        largest=st.integers(1, 10**4),
    ),
    max_size=20,
    unique_by=lambda some: some.batch,
)
LOADS = st.builds(Load, slots=st.integers(0, 1000), pace=st.floats(0, 1))
SERVED = st.dictionaries(st.integers(1, 4), st.floats(0, 1e12))


def standing(some: list[Candidate], load: Load, served: dict[int, float], newest: float = 0.0) -> dict[int, float]:
    known = {tenant: tag for tenant, tag in served.items() if tenant in {one.tenant for one in some}}
    return virtual_times(some, weights(some, load), known, newest)


@given(CANDIDATES, LOADS, SERVED)
@searched
def test_the_order_holds_every_candidate_once_and_is_always_the_same(
    some: list[Candidate], load: Load, served: dict[int, float]
) -> None:
    virtual = standing(some, load, served)
    found = ranked(some, load, virtual)
    assert sorted(found) == sorted(some)
    assert ranked(reversed(some), load, virtual) == found
    assert [virtual[one.tenant] for one in found] == sorted(virtual[one.tenant] for one in some)


@given(CANDIDATES, LOADS, SERVED)
@searched
def test_within_a_tenant_the_nearest_deadline_in_danger_and_then_the_oldest_batch(
    some: list[Candidate], load: Load, served: dict[int, float]
) -> None:
    danger = in_danger(some, load)
    found = ranked(some, load, standing(some, load, served))
    for tenant in TENANTS:
        own = [one for one in found if one.tenant == tenant]
        urgent = [one for one in danger if one.tenant == tenant]
        assert own[: len(urgent)] == urgent
        assert [one.batch for one in own[len(urgent) :]] == sorted(one.batch for one in own[len(urgent) :])


@given(CANDIDATES, LOADS)
@searched
def test_no_weight_falls_and_urgency_is_at_most_half(some: list[Candidate], load: Load) -> None:
    found = weights(some, load)
    assert all(weight >= TENANTS[tenant][0] for tenant, weight in found.items())
    urgent = {one.tenant for one in in_danger(some, load)[:1]}
    for tenant in urgent:
        rest = sum(weight for other, weight in found.items() if other != tenant)
        without = weights([one for one in some if one.tenant != tenant], load)
        assert found[tenant] >= rest * (1 - 1e-9)
        if not any(TENANTS[one.tenant][1] for one in some):
            assert found[tenant] <= max(TENANTS[tenant][0], sum(without.values())) + 1e-9


@given(CANDIDATES, LOADS, SERVED, st.floats(0, 1e12))
@searched
def test_nobody_is_further_behind_than_the_lag(
    some: list[Candidate], load: Load, served: dict[int, float], newest: float
) -> None:
    weight = weights(some, load)
    known = {tenant: tag for tenant, tag in served.items() if tenant in weight}
    found = virtual_times(some, weight, known, newest)
    assert set(found) == set(weight)
    lag = LAG * max((one.largest / weight[one.tenant] for one in some), default=0.0)
    first = max(known.values(), default=newest)
    assert all(virtual >= first - lag for virtual in found.values())
    assert all(found[tenant] >= tag for tenant, tag in known.items())


def test_a_newcomer_stands_just_before_the_least_served() -> None:
    some = [candidate(1, 1), candidate(2, 2), candidate(3, 3)]
    virtual = virtual_times(some, {1: 1.0, 2: 1.0, 3: 1.0}, {1: 500.0, 3: 400.0}, 0.0)
    assert 399.999 < virtual[2] < 400.0
    assert [one.tenant for one in ranked(some, CALM, virtual)] == [2, 3, 1]


def test_when_all_are_new_they_stand_where_the_last_of_all_stood() -> None:
    assert virtual_times([candidate(1, 1)], {1: 1.0}, {}, 7e6)[1] == pytest.approx(7e6)


def test_while_the_pace_is_unknown_an_hour_is_the_edge_of_danger() -> None:
    edge, late = candidate(1, seconds_left=URGENT_SECONDS), candidate(2, seconds_left=URGENT_SECONDS - 0.001)
    assert in_danger([edge, late], CALM) == [late]


def test_danger_counts_the_work_that_is_due_before() -> None:
    """At 0.1 s a token, 10,000 tokens on half of 100 slots take 20 s: 25 with the safety."""
    load, seconds = Load(slots=100, pace=0.1), SAFETY * 20 + MARGIN
    first, second = (candidate(n, seconds_left=seconds + 1, work=10_000) for n in (1, 2))
    assert in_danger([first], load) == []
    assert in_danger([first, second], load) == [second]


def test_a_reservation_is_a_share_of_all_slots() -> None:
    """Tenant 3 keeps 20 of 100 slots beside weights of 1 and 3: 4 x 20 / 80."""
    found = weights([candidate(1, 1), candidate(2, 2), candidate(3, 3)], CALM)
    assert found == {1: 1.0, 2: 3.0, 3: 1.0}
    more = weights([candidate(1, 1), candidate(2, 2), candidate(3, 3)], Load(slots=40, pace=0.0))
    assert more == {1: 1.0, 2: 3.0, 3: 4.0}


def test_a_weight_of_zero_is_no_division_by_zero() -> None:
    zero = candidate(1)._replace(weight=0)
    assert ranked([zero], Load(0, 1.0), virtual_times([zero], weights([zero], Load(0, 1.0)), {}, 0.0)) == [zero]


def test_an_estimate_is_believed_until_enough_lines_are_there_and_never_left_far() -> None:
    assert corrected(1000, 10, FAMILIAR - 1, 10**9) == 1000
    assert corrected(1000, 10, FAMILIAR, FAMILIAR * 150) == 1500
    assert corrected(1000, 10, FAMILIAR, 0) == 125
    assert corrected(1000, 10, FAMILIAR, 10**9) == 8000


@given(CANDIDATES, LOADS, SERVED, st.randoms())
@searched
def test_raising_a_batch_puts_it_before_none_in_real_danger(
    some: list[Candidate], load: Load, served: dict[int, float], random: Random
) -> None:
    """Whoever is in danger stays before it, has what it had, and goes before it within their tenant."""
    raised = [one._replace(raised=random.random() < 0.5) for one in some]
    danger = in_danger(some, load)
    assert [one.batch for one in in_danger(raised, load)] == [one.batch for one in danger]
    if not danger:
        return
    assert weights(raised, load) == weights(some, load)
    before = {one.batch: place for place, one in enumerate(ranked(some, load, standing(some, load, served)))}
    after = {one.batch: place for place, one in enumerate(ranked(raised, load, standing(raised, load, served)))}
    for late in danger:
        assert after[late.batch] <= before[late.batch]
        assert all(
            after[late.batch] < after[one.batch] for one in some if one not in danger and one.tenant == late.tenant
        )


@given(CANDIDATES, LOADS, SERVED)
@searched
def test_a_raised_batch_goes_first_in_its_tenant_and_gives_it_half_while_none_is_in_danger(
    some: list[Candidate], load: Load, served: dict[int, float]
) -> None:
    calm = [one._replace(seconds_left=10 * DAY * 1e6, raised=one.batch % 3 == 0) for one in some]
    found, weight = ranked(calm, load, standing(calm, load, served)), weights(calm, load)
    first = urgent(calm, load)
    assert {one.batch for one in first} == {one.batch for one in calm if one.raised}
    for tenant in TENANTS:
        own = [one for one in found if one.tenant == tenant]
        assert [one.raised for one in own] == sorted((one.raised for one in own), reverse=True)
    for tenant in {one.tenant for one in first[:1]}:
        assert weight[tenant] >= sum(each for other, each in weight.items() if other != tenant) * (1 - 1e-9)
