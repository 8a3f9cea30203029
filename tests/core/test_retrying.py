"""When a line is tried again: what the upstream asks for is obeyed within reason, else the wait is drawn."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.core.retrying import (
    BACKOFF_BASE,
    BACKOFF_CAP,
    COOL_BASE,
    COOL_CAP,
    MAX_ATTEMPTS,
    RETRY_AFTER_CAP,
    RetryBudget,
    backoff,
    cooling,
    is_wait,
    next_attempt,
    retry_after,
)
from tests.core import searched

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0), ("1", 1), ("120", 120), (" 7 ", 7), ("007", 7), ("300", 300), ("301", 300), ("86400", 300),
        ("9" * 30, 300), ("9" * 100, 300), ("9" * 5000, 300),
        ("Sun, 01 Mar 2026 12:00:10 GMT", 10),
        ("Sun, 01 Mar 2026 13:00:10 +0100", 10),
        ("Sunday, 01-Mar-26 12:00:10 GMT", 10),  # RFC 850
        ("Sun, 01 Mar 2026 12:00:00 GMT", 0),
        ("Sun, 01 Mar 2026 11:59:00 GMT", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 300),
    ],
)  # fmt: skip
def test_what_an_upstream_asks_for_is_obeyed_up_to_five_minutes(header: str, seconds: float) -> None:
    assert retry_after(header, NOW) == seconds


@pytest.mark.parametrize(
    "header",
    [
        None, "", " ", "-1", "-0", "+5", "1.5", "1e3", "inf", "nan", "0x10", "1_0", "5s", "5, 6", "٣", "²", "soon", "null",
        "Sun, 32 Mar 2026 12:00:10 GMT", "Sun, 01 Mar 2026 25:00:10 GMT", "Sun, 01 Mar 99999 12:00:10 GMT", "Sun,", ",",
        "Sun, 01 Mar 2026 12:00:10 +" + "9" * 30,
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_as_if_it_were_absent(header: str | None) -> None:
    assert retry_after(header, NOW) is None


def test_leading_zeros_do_not_make_an_early_retry() -> None:
    assert retry_after("00000000060", NOW) == 60


@pytest.mark.parametrize("header", ["Sun Mar  1 12:00:10 2026", "Sun, 01 Mar 2026 12:00:10 -0000"])
def test_a_date_without_a_zone_is_utc(header: str) -> None:
    assert retry_after(header, NOW) == 10


@pytest.mark.parametrize(
    "header", ["Sun Mar  1 12:00:10 2026", "Sun, 01 Mar 2026 12:00:10 -0000", "01 Mar 2026 12:00:10"]
)
def test_a_date_without_a_zone_makes_no_trouble(header: str) -> None:
    assert retry_after(header, NOW) in (None, 10)


WORDS = ["Sun", "Mar", "GMT", "2026", "26", "12:00:10", "-", "+", ",", " ", "99999999999", "PM", "(", '"', "\0", "é"]


@given(st.text(max_size=30) | st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join))
@searched
def test_no_header_makes_it_raise_or_wait_longer_than_the_cap(header: str) -> None:
    seconds = retry_after(header, NOW)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_CAP


@given(st.integers(-(10**6), 10**6))
@searched
def test_a_date_means_the_seconds_until_it(offset: int) -> None:
    header = format_datetime(NOW + timedelta(seconds=offset), usegmt=True)
    assert retry_after(header, NOW) == min(max(offset, 0), RETRY_AFTER_CAP)


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
@searched
def test_a_backoff_is_a_part_of_the_doubled_second(attempts: int, part: float) -> None:
    most = min(BACKOFF_CAP, BACKOFF_BASE * 2 ** min(attempts - 1, 60))
    assert backoff(attempts, lambda: part) == pytest.approx(most * part)
    assert 0 <= backoff(attempts) <= most


def test_the_backoff_doubles_to_a_minute() -> None:
    assert [backoff(attempts, lambda: 1.0) for attempts in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_the_jitter_is_full() -> None:
    drawn = [backoff(5) for _ in range(2000)]
    assert min(drawn) < 1.6
    assert max(drawn) > 14.4
    assert 7 < sum(drawn) / len(drawn) < 9


@given(st.none() | st.floats(0, 300))
@searched
def test_a_line_is_tried_eight_times_and_no_more(asked: float | None) -> None:
    waits = [next_attempt(attempts, asked, lambda: 1.0) for attempts in range(1, 12)]
    assert MAX_ATTEMPTS == 8
    assert [wait is not None for wait in waits] == [True] * 7 + [False] * 4
    assert asked is None or waits[:7] == [asked] * 7


def test_a_retry_after_of_zero_is_obeyed_too() -> None:
    assert next_attempt(1, 0.0, lambda: 1.0) == 0.0


@pytest.mark.parametrize(("asked", "waits"), [(None, False), (0.0, False), (0.999, False), (1.0, True), (300.0, True)])
def test_only_a_wait_of_a_second_or_more_counts_no_attempt(asked: float | None, waits: bool) -> None:
    assert is_wait(asked) == waits


def test_an_upstream_that_cannot_be_reached_rests_longer_each_time_up_to_its_cap() -> None:
    rests = [cooling(failures) for failures in range(1, 2000)]
    assert rests[:7] == [COOL_BASE * 2**power for power in range(6)] + [COOL_CAP]
    assert rests == sorted(rests)
    assert rests[-1] == COOL_CAP == 30


def go(budget: RetryBudget, now: float, times: int) -> int:
    """How many of so many retries that ask now may go."""
    allowed = [not budget.wait(now, lambda: 0.0) for _ in range(times)]
    for _ in range(sum(allowed)):
        budget.sent(now)
    return sum(allowed)


def test_a_fifth_of_what_is_sent_may_be_retries() -> None:
    budget = RetryBudget(0.0)
    for _ in range(400):
        budget.sent(0.0)
    assert go(budget, 0.0, 1000) == 80 + 1  # and one at the steady pace


def test_beyond_the_fifth_retries_go_at_a_steady_pace() -> None:
    budget = RetryBudget(0.0)
    assert sum(go(budget, moment / 100, 50) for moment in range(1000)) == pytest.approx(100, abs=30)
    assert 0 < budget.wait(10.0, lambda: 0.5) <= 0.6


def test_each_line_delivered_lets_two_go_so_that_an_upstream_that_is_well_has_its_retries_fast() -> None:
    budget, waiting, rounds = RetryBudget(0.0), 1000, 0
    while waiting:
        rounds += 1
        went = go(budget, rounds * 0.02, min(waiting, 64))
        waiting -= went
        for _ in range(went):
            budget.delivered()
    assert rounds < 60


def test_no_more_credit_is_saved_than_a_hundred() -> None:
    budget = RetryBudget(0.0)
    for _ in range(5000):
        budget.sent(0.0)
        budget.delivered()
    assert go(budget, 100.0, 1000) <= 102


def test_what_was_sent_more_than_half_a_minute_ago_is_forgotten() -> None:
    for later, allowed in [(10.0, 81), (20.0, 81), (40.0, 1), (1000.0, 1)]:
        budget = RetryBudget(0.0)
        for _ in range(400):
            budget.sent(1.0)
        assert go(budget, later, 1000) == allowed


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=300), st.integers(0, 50))
@searched
def test_every_retry_goes_in_the_end(steps: list[tuple[float, bool]], delivered: int) -> None:
    budget, now = RetryBudget(0.0), 0.0
    for _ in range(delivered):
        budget.delivered()
    for pause, is_retry in steps:
        now += pause
        while is_retry and (wait := budget.wait(now, lambda: 0.01)):
            assert 0 < wait <= 0.12
            now += wait
        budget.sent(now)
