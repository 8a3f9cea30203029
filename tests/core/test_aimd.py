"""How many requests an upstream takes at once: found, kept, found again; in virtual time, with an upstream of 8."""

import heapq
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.core.limiting import Adaptive, is_capacity
from tests.core import searched


def feed(adaptive: Adaptive, answers: list[bool], granted: int = 64, now: float = 0.0) -> list[bool]:
    """Answers, True for a capacity error; which of them ended a window."""
    return [adaptive.saw(error, now, now, granted) for error in answers]


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [(429, "", True), (503, "", True), (None, "request_timeout", True), (None, "upstream_unreachable", False),
     (500, "", False), (502, "", False), (408, "", False), (None, "invalid_upstream_response", False)],
)  # fmt: skip
def test_what_says_that_an_upstream_has_too_much_to_do(status: int | None, code: str, expected: bool) -> None:
    assert is_capacity(status, code) == expected


def test_it_starts_at_the_grant_and_clean_windows_keep_it_there() -> None:
    adaptive = Adaptive(64)
    assert feed(adaptive, [False] * 64) == [False] * 63 + [True]
    assert (adaptive.limit, adaptive.open, adaptive.settled) == (64, 64, 64)


def test_more_than_a_tenth_cuts_once_a_tenth_does_not() -> None:
    adaptive = Adaptive(10)
    feed(adaptive, [True] + [False] * 9)
    assert adaptive.limit == 10
    feed(adaptive, [True] * 2 + [False] * 8)
    assert adaptive.limit == 7


def test_what_was_sent_before_a_cut_does_not_cut_again() -> None:
    adaptive = Adaptive(64)
    for _ in range(64):
        adaptive.saw(True, sent=1.0, now=2.0, granted=64)
    assert adaptive.limit == 45
    for _ in range(500):
        assert not adaptive.saw(True, sent=1.9, now=2.1, granted=64)
    assert (adaptive.limit, adaptive.open) == (45, 45)


def test_a_slot_that_was_refused_stays_closed_until_the_window_ends() -> None:
    adaptive = Adaptive(8)
    feed(adaptive, [True, True, False])
    assert (adaptive.limit, adaptive.open) == (8, 6)
    feed(adaptive, [True] * 4)
    assert adaptive.open == 2
    feed(adaptive, [False])
    assert (adaptive.limit, adaptive.open) == (6, 6)


def test_a_clean_window_adds_one_up_to_the_most() -> None:
    adaptive = Adaptive(10)
    feed(adaptive, [True] * 10)
    limits = []
    for _ in range(6):
        feed(adaptive, [False] * adaptive.limit)
        limits.append(adaptive.limit)
    assert limits == [8, 9, 10, 10, 10, 10]


def test_it_adds_none_while_the_grant_is_what_bounds() -> None:
    adaptive = Adaptive(64)
    feed(adaptive, [True] * 64)
    feed(adaptive, [False] * 400, granted=20)
    assert adaptive.limit == 45


def test_cut_down_to_one_it_opens_by_doubling_until_the_first_capacity_error() -> None:
    adaptive = Adaptive(64)
    while adaptive.limit > 1:
        feed(adaptive, [True] * adaptive.limit)
    limits = [adaptive.limit]
    for _ in range(7):
        feed(adaptive, [False] * adaptive.limit)
        limits.append(adaptive.limit)
    assert limits == [1, 2, 4, 8, 16, 32, 64, 64]
    feed(adaptive, [True] * 64)
    feed(adaptive, [False] * 45)
    assert adaptive.limit == 46


def test_a_line_that_is_refused_alone_says_nothing_of_capacity() -> None:
    adaptive = Adaptive(64)
    feed(adaptive, [True] * 9, granted=1)
    assert adaptive.limit == 64
    assert adaptive.is_lines_own(1)


def test_a_refusal_is_the_lines_own_where_as_many_did_well_before() -> None:
    adaptive = Adaptive(64)
    assert not adaptive.is_lines_own(2)  # nothing is known yet
    feed(adaptive, [True] * 56 + [False] * 8)
    assert not adaptive.is_lines_own(40)
    feed(adaptive, [False] * 45)
    assert (adaptive.is_lines_own(45), adaptive.is_lines_own(46)) == (True, False)
    feed(adaptive, [True] * 46)  # more than did well: that is remembered
    assert adaptive.is_lines_own(45)
    feed(adaptive, [True] * adaptive.limit)  # what did well does so no more: all is learned anew
    assert not adaptive.is_lines_own(2)


def test_it_follows_the_operator() -> None:
    adaptive = Adaptive(64)
    adaptive.allow(100)
    assert adaptive.limit == adaptive.open == 100
    adaptive.allow(10)
    assert adaptive.limit == adaptive.open == 10
    feed(adaptive, [True] * 10)
    adaptive.allow(100)
    assert adaptive.limit == adaptive.open == 7


@given(
    st.integers(1, 200), st.integers(1, 200),
    st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.integers(0, 200)), max_size=400),
)  # fmt: skip
@searched
def test_it_stays_between_one_and_the_most(most: int, granted: int, answers: list[tuple[bool, float, int]]) -> None:
    adaptive = Adaptive(most)
    for number, (error, age, more) in enumerate(answers):
        before = adaptive.limit
        ended = adaptive.saw(error, number - 10 * age, float(number), min(granted + more, 200))
        assert 1 <= adaptive.open <= adaptive.limit <= most
        assert 1 <= adaptive.settled <= most
        assert ended or adaptive.limit == before


@given(st.integers(2, 500), st.lists(st.booleans(), min_size=1, max_size=2000))
@searched
def test_one_cut_a_window_and_never_deeper_than_seven_tenths(most: int, answers: list[bool]) -> None:
    adaptive, since_cut = Adaptive(most), most
    for error in answers:
        before = adaptive.limit
        adaptive.saw(error, 0.0, 0.0, most)
        since_cut += 1
        if adaptive.limit < before:
            assert adaptive.limit >= min(before - 1, before * 0.7)
            assert since_cut >= before
            since_cut = 0


@given(st.integers(1, 300), st.lists(st.booleans(), max_size=1000))
@searched
def test_whatever_happened_it_recovers(most: int, answers: list[bool]) -> None:
    adaptive = Adaptive(most)
    feed(adaptive, answers, most)
    for _ in range(most + 2):
        feed(adaptive, [False] * adaptive.limit, most)
    assert adaptive.limit == adaptive.open == most


class Run(NamedTuple):
    goodput: float  # of what the upstream could have done
    refused: int
    counted: int  # refusals that counted as an attempt
    most_attempts: int  # of one line
    limits: list[int]


def simulate(capacity: int, lines: int, granted: int, refusal_seconds: float, seed: int = 1) -> Run:
    """The pump's slots before an upstream that refuses more than `capacity`, in virtual time."""
    rng, adaptive, now = Random(seed), Adaptive(granted), 0.0
    events: list[tuple[float, int, int, bool, float, int]] = []  # when, order, line, refused, sent, in flight when sent
    waiting: list[tuple[float, int]] = []
    fresh, flying, inside, done, refused, order = 0, 0, 0, 0, 0, 0
    attempts, limits, nine_tenths, spent = [0] * lines, [], 0.0, 0.0
    while done < lines:
        while flying < adaptive.open and ((waiting and waiting[0][0] <= now) or fresh < lines):
            if waiting and waiting[0][0] <= now:
                line = heapq.heappop(waiting)[1]
            else:
                line, fresh = fresh, fresh + 1
            flying, order = flying + 1, order + 1
            no = inside >= capacity
            inside += not no
            seconds = refusal_seconds if no else rng.uniform(0.020, 0.030)
            spent += 0 if no else seconds
            heapq.heappush(events, (now + seconds, order, line, no, now, flying))
        if not events or (flying < adaptive.open and waiting and waiting[0][0] < events[0][0]):
            now = max(now, waiting[0][0])
            continue
        now, _, line, no, sent, in_flight = heapq.heappop(events)
        flying, inside, done, refused = flying - 1, inside - (not no), done + (not no), refused + no
        if no:
            attempts[line] += adaptive.is_lines_own(in_flight)
            heapq.heappush(waiting, (now + rng.random(), line))
        if adaptive.saw(no, sent, now, granted):
            limits.append(adaptive.limit)
        if done == lines * 9 // 10:
            nine_tenths = spent / capacity / now
    return Run(nine_tenths, refused, sum(attempts), max(attempts), limits)


@pytest.mark.parametrize("refusal_seconds", [0.001, 0.025], ids=["refused at once", "refused late"])
@pytest.mark.parametrize(
    ("capacity", "lines"), [(8, 600), (8, 20_000), (3, 2000), (20, 20_000), (50, 20_000), (64, 5000)]
)
def test_the_limit_settles_near_what_the_upstream_takes(capacity: int, lines: int, refusal_seconds: float) -> None:
    run = simulate(capacity, lines, 64, refusal_seconds)
    settled = run.limits[len(run.limits) // 2 :]
    print(f"{capacity=} {lines=} {run[:4]} {min(settled)}..{max(settled)}")
    assert run.goodput >= 0.9
    assert run.refused / lines <= 0.3
    assert run.most_attempts <= 2
    assert 0.6 * capacity <= min(settled) and max(settled) <= 1.2 * capacity + 2
