"""A key's bucket: what a minute allows, on a clock of the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.buckets import PERIOD, SECOND, Allowance, take
from tenants.errors import Refused
from tenants.throttling import Throttle, check, duration
from tests.core import searched

LIMITS = st.integers(1, 100_000)
GAPS = st.lists(st.integers(0, PERIOD // 10) | st.just(0), max_size=60)


def drain(limit: int, full_at: int = 0, now: int = 0) -> tuple[int, int]:
    """Take all there is at one moment; how many, and when the bucket is full again."""
    taken = 0
    while True:
        full_at, found = take(full_at, now, limit)
        if not found.allowed:
            return taken, full_at
        taken += 1
        assert found.remaining == limit - taken
        assert found.reset == full_at - now


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 60, 1199, 1200, 1201, 100_000])
def test_a_full_bucket_holds_its_limit_and_fills_in_a_minute(limit: int) -> None:
    taken, full_at = drain(limit)
    assert taken == limit
    assert PERIOD - limit < full_at <= PERIOD
    assert drain(limit, full_at, PERIOD)[0] == limit


@given(LIMITS, GAPS)
@searched
def test_no_span_takes_more_than_its_refill_beside_a_bucket(limit: int, gaps: list[int]) -> None:
    full_at = now = taken = 0
    for gap in gaps:
        now += gap
        full_at, found = take(full_at, now, limit)
        taken += found.allowed
    assert (taken - limit) * (PERIOD // limit) <= now


@given(LIMITS, st.integers(0, PERIOD))
@searched
def test_who_keeps_to_the_rate_is_never_refused(limit: int, wait: int) -> None:
    full_at, now = (drain(limit)[1] if limit < 300 else 0), wait
    for _ in range(50):
        now += PERIOD // limit
        full_at, found = take(full_at, now, limit)
        assert found.allowed


@given(st.integers(1, 300), GAPS)
@searched
def test_retry_after_is_neither_early_nor_late(limit: int, gaps: list[int]) -> None:
    full_at, now = drain(limit)[1], 0
    for gap in gaps:
        now += gap
        full_at, found = take(full_at, now, limit)
        if found.allowed:
            continue
        assert (found.remaining, found.retry_after > 0) == (0, True)
        assert not take(full_at, now + found.retry_after - 1, limit)[1].allowed
        assert take(full_at, now + found.retry_after, limit)[1].allowed


@given(st.integers(1, 300), st.integers(1, 300))
@searched
def test_another_limit_counts_from_the_next_request(before: int, after: int) -> None:
    """An empty bucket stays empty, whatever its size, and is full a minute later."""
    full_at = drain(before)[1]
    assert not take(full_at, 0, after)[1].allowed or full_at <= PERIOD - PERIOD // after
    assert drain(after, full_at, PERIOD)[0] == after


@pytest.mark.parametrize(("nanoseconds", "seconds"), [(1, "1"), (SECOND, "1"), (SECOND + 1, "2"), (PERIOD, "60")])
def test_retry_after_is_whole_seconds_from_one_up(nanoseconds: int, seconds: str) -> None:
    with pytest.raises(Refused) as refused:
        check(Allowance(False, 1200, 0, PERIOD, nanoseconds))
    assert refused.value.headers == {"Retry-After": seconds}


# --- the buckets of all keys ------------------------------------------------------------------------------------------


class Clock:
    now = 5 * SECOND

    def __call__(self) -> int:
        return self.now


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2 * PERIOD)), max_size=80))
@searched
def test_forgetting_full_buckets_changes_no_answer(steps: list[tuple[int, int]]) -> None:
    clock, kept = Clock(), dict.fromkeys(range(5), 0)
    throttle = Throttle(clock)
    for key, gap in steps:
        clock.now += gap // 7
        kept[key], expected = take(kept[key], clock.now, 3)
        assert throttle.take(key, 3) == expected


def test_keys_that_come_no_more_are_forgotten() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for key in range(1000):
        clock.now += PERIOD // 100
        throttle.take(key, 1200)
        assert len(throttle) <= 202
    assert not throttle.take(0, 1).retry_after


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [(0, "0ms"), (1, "1ms"), (50_000_000, "50ms"), (999_000_001, "1s"), (SECOND, "1s"), (8_640_000_000, "8.64s"),
     (59_999_000_000, "59.999s"), (PERIOD, "60s")],
)  # fmt: skip
def test_durations_are_written_as_openai_does(nanoseconds: int, shown: str) -> None:
    assert duration(nanoseconds) == shown
