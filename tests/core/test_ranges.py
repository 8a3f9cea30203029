"""The Range header, by the examples of RFC 9110, 14.1.2, and by its definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.core.ranges import Unsatisfiable, parse
from tests.core import searched

SIZE = 10_000


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-499", 0, 499),
        ("bytes=500-999", 500, 999),
        ("bytes=-500", 9500, 9999),
        ("bytes=9500-", 9500, 9999),
        ("bytes=0-0", 0, 0),
        ("bytes=-1", 9999, 9999),
        ("bytes=0-", 0, 9999),
        ("bytes=0-9999", 0, 9999),
        ("bytes=0-10000", 0, 9999),
        ("bytes=9999-99999999", 9999, 9999),
        ("bytes=-20000", 0, 9999),
        ("bytes=-10000", 0, 9999),
        (" bytes=0-1 ", 0, 1),
        ("bytes=0007-0008", 7, 8),
    ],
)
def test_the_examples_of_the_rfc(header: str, first: int, last: int) -> None:
    assert parse(header, SIZE) == (first, last - first + 1)


@pytest.mark.parametrize("header", ["bytes=10000-", "bytes=10000-10001", "bytes=-0", "bytes=99999-100000"])
def test_what_lies_beyond_the_end_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        parse(header, SIZE)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0"])
def test_nothing_of_an_empty_file_can_be_satisfied(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        parse(header, 0)


@pytest.mark.parametrize(
    "header",
    [
        None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=1", "bytes=5-2", "bytes=20000-5", "bytes=0-0,-1",
        "bytes= 0-1", "bytes=0 - 1", "bytes=--1", "bytes=0-1-2", "bytes=+0-1", "bytes=0x0-1", "bytes=1.0-2", "items=0-1",
        "bytes=0-1\nbytes=2-3", "bytes=0-" + "9" * 5000, "bytes=" + "9" * 5000 + "-",
    ],
)  # fmt: skip
def test_what_is_not_one_range_is_ignored_and_everything_is_sent(header: str | None) -> None:
    assert parse(header, SIZE) is None


def test_digits_are_those_of_ascii() -> None:
    assert parse("bytes=٠-٥", SIZE) is None


def test_the_unit_may_be_written_in_capitals() -> None:
    assert parse("Bytes=0-1", SIZE) == (0, 2)


@given(st.text(max_size=20) | st.text("bytes=-0123456789, ", max_size=20).map("bytes={}".format), st.integers(0, 200))
@searched
def test_any_header_is_a_part_of_the_file_or_everything_or_refused(header: str, size: int) -> None:
    try:
        found = parse(header, size)
    except Unsatisfiable:
        return
    if found is not None:
        start, length = found
        assert 0 <= start < start + length <= size


@given(st.binary(min_size=1, max_size=50), st.integers(0, 60), st.integers(0, 60))
@searched
def test_a_range_is_the_slice_it_names(data: bytes, first: int, last: int) -> None:
    for header, part in ((f"bytes={first}-{last}", data[first : last + 1]), (f"bytes={first}-", data[first:])):
        if last < first and header[-1] != "-":
            assert parse(header, len(data)) is None
        elif first >= len(data):
            with pytest.raises(Unsatisfiable):
                parse(header, len(data))
        else:
            start, length = parse(header, len(data)) or (0, 0)
            assert data[start : start + length] == part
    start, length = parse(f"bytes=-{last + 1}", len(data)) or (0, 0)
    assert data[start : start + length] == data[-(last + 1) :]
