"""An upstream's slots among runners: never more than there are, and to each what is fair."""

from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batches.core.limiting import Holding, fair_share, grant
from tests.core import searched

WANTS = st.lists(st.integers(0, 40), min_size=1, max_size=8)


def one_by_one(wants: list[int], total: int) -> list[int]:
    """Max-min fairness, the slow way: each slot to whoever has least and wants more."""
    shares = [0] * len(wants)
    for _ in range(total):
        hungry = [index for index, want in enumerate(wants) if shares[index] < want]
        if hungry:
            shares[min(hungry, key=lambda index: shares[index])] += 1
    return shares


@given(st.lists(st.integers(0, 200), max_size=10), st.integers(0, 300))
@searched
def test_nobody_gets_more_than_it_wants_and_nothing_is_left_that_is_wanted(wants: list[int], total: int) -> None:
    shares = fair_share(wants, total)
    assert sum(shares) == min(total, sum(wants))
    assert all(0 <= share <= want for share, want in zip(shares, wants, strict=True))


@given(WANTS, st.integers(0, 100))
@searched
def test_the_shares_are_those_of_dealing_slots_one_by_one(wants: list[int], total: int) -> None:
    shares = fair_share(wants, total)
    assert sorted(shares) == sorted(one_by_one(wants, total))
    for share, want in zip(shares, wants, strict=True):
        if share < want:  # whoever is left wanting has as much as anybody, but for the odd slot
            assert max(shares) - share <= 1


def test_what_one_leaves_goes_to_the_others() -> None:
    assert fair_share([2, 100, 100], 32) == [2, 15, 15]
    assert fair_share([100], 32) == [32]
    assert fair_share([10, 10, 10], 4) == [2, 1, 1]
    assert fair_share([5, 5], 0) == [0, 0]
    assert fair_share([], 9) == []


class Turn(NamedTuple):
    """One runner asks: what it wants, which part of its slots is in flight; or it leaves."""

    runner: int
    wanted: int
    busy: float
    leaves: bool


TURNS = st.lists(
    st.builds(Turn, st.integers(0, 4), st.integers(0, 40), st.floats(0, 1), st.integers(0, 9).map(lambda n: n == 0)),
    max_size=60,
)


class Upstream:
    """The permits' table: what each runner holds and wants, as the last one to ask left it."""

    def __init__(self, total: int, holdings: dict[int, Holding] | None = None) -> None:
        self.total, self.holdings = total, dict(holdings or {})

    def settle(self, runner: int, wanted: int, busy: int) -> int:
        self.holdings[runner] = Holding(self.holdings.get(runner, Holding(0, 0)).slots, wanted)
        runners = sorted(self.holdings)
        granted = grant(self.total, [self.holdings[each] for each in runners], runners.index(runner), busy)
        assert granted.limit <= granted.slots
        self.holdings[runner] = Holding(granted.slots, wanted)
        return granted.slots

    def settle_all(self, busy_part: float = 0.0, rounds: int = 50) -> dict[int, int]:
        """Each runner in its turn, until nothing changes."""
        for _ in range(rounds):
            for runner, (slots, wanted) in list(self.holdings.items()):
                self.settle(runner, wanted, int(slots * busy_part))
        return {runner: holding.slots for runner, holding in self.holdings.items()}

    @property
    def held(self) -> int:
        return sum(holding.slots for holding in self.holdings.values())


@given(st.integers(0, 64), TURNS)
@searched
def test_the_slots_held_never_exceed_the_limit_in_whatever_order_runners_ask(total: int, turns: list[Turn]) -> None:
    upstream = Upstream(total)
    for turn in turns:
        if turn.leaves:
            upstream.holdings.pop(turn.runner, None)
            continue
        held = upstream.holdings.get(turn.runner, Holding(0, 0)).slots
        busy = int(held * turn.busy)
        slots = upstream.settle(turn.runner, turn.wanted, busy)
        assert busy <= slots
        assert slots <= max(turn.wanted, busy)
        assert upstream.held <= total


@given(st.integers(0, 64), st.integers(0, 64), TURNS)
@searched
def test_when_the_limit_is_lowered_nothing_grows_above_it(before: int, after: int, turns: list[Turn]) -> None:
    upstream = Upstream(before)
    for turn in turns:
        upstream.settle(turn.runner, turn.wanted, 0)
    upstream.total = after
    for turn in turns:
        held = upstream.held
        slots = upstream.holdings[turn.runner].slots
        upstream.settle(turn.runner, turn.wanted, int(slots * turn.busy))
        assert upstream.held <= max(held, after)


@given(st.integers(0, 64), st.integers(0, 64), WANTS)
@example(2, 1, [1, 1])
@example(4, 3, [9, 9])
@searched
def test_a_limit_that_is_lowered_is_kept_once_every_runner_has_asked(before: int, after: int, wants: list[int]) -> None:
    upstream = Upstream(before, {runner: Holding(0, want) for runner, want in enumerate(wants)})
    upstream.settle_all()
    upstream.total = after
    upstream.settle_all()
    assert upstream.held <= after


@given(st.integers(0, 64), WANTS, TURNS)
@searched
def test_idle_runners_come_to_hold_exactly_their_fair_shares(total: int, wants: list[int], turns: list[Turn]) -> None:
    upstream = Upstream(total)
    for turn in turns:
        upstream.settle(turn.runner, turn.wanted, 0)
    upstream.holdings = {runner: upstream.holdings.get(runner, Holding(0, 0)) for runner in range(len(wants))}
    upstream.holdings = {runner: held._replace(wanted=wants[runner]) for runner, held in upstream.holdings.items()}
    slots = upstream.settle_all()
    assert [slots[runner] for runner in sorted(slots)] == fair_share(wants, total)
    assert upstream.settle_all(rounds=1) == slots


@given(st.integers(0, 64), st.integers(0, 40), st.integers(0, 40), st.integers(0, 64))
@searched
def test_two_runners_come_to_equal_parts(total: int, one: int, two: int, first: int) -> None:
    upstream = Upstream(total, {1: Holding(min(first, total), one), 2: Holding(0, two)})
    slots = list(upstream.settle_all().values())
    assert sorted(slots) == sorted(one_by_one([one, two], total))


@pytest.mark.parametrize(("total", "runners"), [(4, 3), (8, 7), (32, 5), (10, 9), (64, 33)])
def test_no_runner_goes_short_while_another_has_two_more(total: int, runners: int) -> None:
    upstream = Upstream(total, {runner: Holding(0, 100) for runner in range(runners)})
    slots = upstream.settle_all().values()
    assert max(slots) - min(slots) <= 1


def test_a_busy_runner_that_fills_only_its_share_again_gives_way_to_a_newcomer() -> None:
    """What it holds is counted with what is in flight; what it may fill again is the same question with none."""
    upstream, busy = Upstream(32, {1: Holding(32, 32), 2: Holding(0, 32)}), 32
    for _ in range(50):
        granted = grant(32, [upstream.holdings[1], upstream.holdings[2]], 0, busy)
        busy = max(granted.limit, busy - 3)  # three of its lines end
        assert upstream.settle(1, 32, busy) >= busy
        upstream.settle(2, 32, upstream.holdings[2].slots)
        assert upstream.held <= 32
    assert upstream.settle_all(busy_part=1.0) == {1: 16, 2: 16}


def test_a_runner_that_wants_nothing_keeps_only_what_is_in_flight() -> None:
    assert grant(32, [Holding(20, 0)], 0, 7) == (7, 0)
    assert grant(32, [Holding(20, 0), Holding(12, 50)], 0, 0) == (0, 0)


def test_a_runner_grows_only_by_what_nobody_holds() -> None:
    assert grant(32, [Holding(0, 32), Holding(30, 32)], 0, 0) == (2, 2)
    assert grant(32, [Holding(4, 32), Holding(28, 32)], 0, 4) == (4, 4)
    assert grant(32, [Holding(4, 32), Holding(40, 32)], 0, 4) == (4, 4)
