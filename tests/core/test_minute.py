"""The last minute of an upstream: everything once, for as long as it is no older."""

from hypothesis import given
from hypothesis import strategies as st

from batches.core.minute import SECONDS, Counts, Minute
from tests.core import searched


def test_what_is_older_than_a_minute_is_forgotten() -> None:
    minute = Minute()
    minute.answers, minute.tokens = 3, 300
    assert minute.cut(0.0) == Counts(3, 0, 0, 300)
    minute.throttled = minute.errors = 1
    assert minute.cut(5.0) == Counts(3, 1, 1, 300)
    assert minute.cut(SECONDS - 0.01) == Counts(3, 1, 1, 300)
    assert minute.cut(SECONDS) == Counts(0, 1, 1, 0)
    assert minute.cut(SECONDS + 5.0) == Counts()


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 9)), max_size=40))
@searched
def test_it_is_the_sum_of_the_spans_that_ended_within_a_minute(spans: list[tuple[float, int]]) -> None:
    minute, now, seen = Minute(), 0.0, list[tuple[float, int]]()
    for seconds, answers in spans:
        now += seconds
        minute.answers += answers
        seen.append((now, answers))
        assert minute.cut(now).answers == sum(count for at, count in seen if at > now - SECONDS)
