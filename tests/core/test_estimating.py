"""How fast a lane is, by what it answered lately."""

from math import inf

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batches.core.estimating import Finished, Speed, Work, forecasts, moved, speed
from batches.core.scheduling import MARGIN
from tests.core import searched

SLOTS, LATENCY, TOKENS = 64, 2.0, 100


def answers(seconds: float, in_flight: int, until: float = 0.0, every: float = 1.0) -> list[Finished]:
    """What so many in flight were answered in a span, in groups, the newest first."""
    lines = int(in_flight / LATENCY * every)
    count = int(seconds / every)
    return [Finished(until + n * every, lines, lines * TOKENS, lines * LATENCY) for n in range(count)]


def rate(recent: list[Finished], busy: float | None) -> float:
    found = speed(recent, SLOTS, busy, 0.0)
    assert found is not None
    assert found.pace == pytest.approx(LATENCY / TOKENS)
    return found.rate


FULL = SLOTS / LATENCY * TOKENS


def test_nothing_known_is_not_guessed() -> None:
    assert speed([], SLOTS, None, 0.0) is None
    assert speed([], SLOTS, None, 0.01) == Speed(SLOTS / 0.01, 0.01)
    assert speed(answers(10, SLOTS), 0, 10.0, 0.0) is None


def test_a_lane_that_takes_fewer_than_its_slots_is_as_fast_as_it_was() -> None:
    assert rate(answers(60, 8), busy=100.0) == pytest.approx(FULL / 8)


def test_a_lane_that_had_little_to_do_is_as_fast_as_its_slots() -> None:
    assert rate(answers(60, 8), busy=None) == pytest.approx(FULL)
    assert rate(answers(60, 8), busy=1.0) == pytest.approx(FULL)


def test_a_pause_counts_for_nothing() -> None:
    recent = answers(20, 16) + answers(60, 64, until=3600)
    assert rate(recent, busy=10_000.0) == pytest.approx(FULL / 4)


def test_a_lane_that_answers_no_more_gets_slower() -> None:
    recent = answers(20, 64, until=40)
    assert rate(recent, busy=100.0) < FULL / 2


def test_old_answers_say_less_than_new_ones() -> None:
    assert rate(answers(80, 32) + answers(600, 64, until=80), busy=1e6) == pytest.approx(FULL / 2, rel=0.05)


def test_one_commit_of_two_upstreams_is_no_span() -> None:
    group = Finished(1.0, 100, 100 * TOKENS, 100 * LATENCY)
    assert rate([group, group], busy=10.0) == pytest.approx(FULL)


parts = st.tuples(
    st.integers(1, 4), st.integers(0, 3), st.integers(0, 99), st.floats(1, 1e9), st.floats(0, 1), st.floats(0.001, 1)
)


@searched
@example([(1, 3, 0, 1.0, 2e-323, 1.0)], {})  # a third of it is nothing: it went round for ever
@given(st.lists(parts, min_size=1, max_size=12), st.dictionaries(st.integers(1, 4), st.floats(-1e6, 1e12)))
def test_whatever_waits_has_an_end(
    some: list[tuple[int, int, int, float, float, float]], tags: dict[int, float]
) -> None:
    """And it is not before the lane, at its speed, has done that much work."""
    works = [
        Work(number, tenant, weight, reserved, left, left * unheld, max(left * unheld * piece, 1e-3), 1.0, number * 1e4)
        for number, (tenant, weight, reserved, left, unheld, piece) in enumerate(some)
    ]
    waiting = {work.tenant for work in works if work.open}
    served = {tenant: tag for tenant, tag in tags.items() if tenant in waiting}
    found = forecasts(works, SLOTS, Speed(1000.0, 0.01), served, 0.0)
    assert set(found) == {work.batch for work in works}
    for work in works:
        forecast = found[work.batch]
        assert min(work.left / 1000.0, work.seconds_left - MARGIN) * 0.999 <= forecast.seconds < inf
        assert 0 < forecast.share <= 1


def test_a_batch_of_few_lines_takes_one_answer() -> None:
    work = Work(1, 1, 1, 0, left=1000, open=1000, last=1000, line=TOKENS, seconds_left=1e6)
    lane = Speed(FULL, LATENCY / TOKENS)
    assert forecasts([work], SLOTS, lane, {}, 0.0)[1].seconds == LATENCY


@pytest.mark.parametrize(
    ("before", "after", "is_news"),
    [
        (None, None, False), (None, 5.0, True), (5.0, None, True), (1000.0, 1015.0, False), (1000.0, 1030.0, True),
        (1.0, 1.09, False), (-10.0, 1.0, True),
    ],
)  # fmt: skip
def test_what_is_worth_a_write(before: float | None, after: float | None, is_news: bool) -> None:
    assert moved(before, after) is is_news
