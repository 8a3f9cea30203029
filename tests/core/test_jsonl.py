"""Counting lines while they arrive and cutting them afterwards: two programs that must agree about every file."""

import tracemalloc
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batches.core.jsonl import BOM, Line, LineCounter, disguise, lines
from tests.core import searched

NO_LIMIT = 1 << 30
TOKENS = (b"\n", b"\n", b"\r", b" ", b"\t", b"{}", b'{"a":"\r"}', b"x", BOM, b"\xef", b"\xbb", b"\xbf", b"\0", b"\\n")
LINE_SEPARATOR = "\u2028".encode()
files = st.lists(st.sampled_from((*TOKENS, LINE_SEPARATOR, b"\x85", b"\x0b", b"\x0c"))).map(b"".join)


class Arrival(NamedTuple):
    """A file, and the chunks in which it came."""

    data: bytes
    chunks: list[bytes]


@st.composite
def arrivals(draw: st.DrawFn, data: st.SearchStrategy[bytes]) -> Arrival:
    """Any file in any chunks, empty ones too."""
    content = draw(data)
    points = sorted(draw(st.lists(st.integers(0, len(content)), max_size=12)))
    return Arrival(content, [content[a:b] for a, b in zip([0, *points], [*points, len(content)], strict=True)])


def naive(data: bytes) -> list[Line]:
    """The definition: no mark at the start, split at newlines, blank is space, tab and carriage return alone."""
    offset = len(BOM) if data.startswith(BOM) else 0
    found = []
    for number, piece in enumerate(data[offset:].split(b"\n"), 1):
        if piece.strip(b" \t\r"):
            found.append(Line(number, offset, len(piece), piece))
        offset += len(piece) + 1
    return found


def count(chunks: list[bytes]) -> int:
    counter = LineCounter()
    for chunk in chunks:
        counter.feed(chunk)
    return counter.count


def in_bytes(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


@given(arrivals(files | st.binary(max_size=60)))
@searched
def test_the_counter_counts_what_is_not_blank_however_the_file_is_cut(arrival: Arrival) -> None:
    assert count(arrival.chunks) == len(naive(arrival.data))


@given(files)
@searched
def test_the_counter_is_right_at_every_byte_of_the_way(data: bytes) -> None:
    counter = LineCounter()
    for end in range(len(data)):
        counter.feed(data[end : end + 1])
        assert counter.count == len(naive(data[: end + 1]))


@given(arrivals(files))
@searched
def test_lines_are_the_same_however_the_file_is_cut(arrival: Arrival) -> None:
    assert list(lines(arrival.chunks, NO_LIMIT)) == naive(arrival.data)


@given(arrivals(files))
@searched
def test_offset_and_length_point_at_the_bytes_of_the_line(arrival: Arrival) -> None:
    for line in lines(arrival.chunks, NO_LIMIT):
        assert arrival.data[line.offset : line.offset + line.length] == line.data


@given(arrivals(files), st.integers(1, 12))
@searched
def test_a_line_over_the_limit_has_no_data_and_breaks_nothing_after_it(arrival: Arrival, limit: int) -> None:
    expected = [line if line.length <= limit else line._replace(data=None) for line in naive(arrival.data)]
    assert list(lines(arrival.chunks, limit)) == expected


@given(arrivals(files))
@searched
def test_the_two_agree_about_how_many_lines_there_are(arrival: Arrival) -> None:
    assert count(arrival.chunks) == sum(1 for _ in lines(arrival.chunks, NO_LIMIT))


@pytest.mark.parametrize("data", [b"\x0c\n{}", b"{}\n\x0b", b" \x0b\x0c\r\n", b"\x0c"])
def test_the_two_agree_about_a_line_of_form_feeds(data: bytes) -> None:
    assert count([data]) == sum(1 for _ in lines([data], NO_LIMIT))


@given(arrivals(st.lists(st.sampled_from((b"\x0b", b"\x0c", b"\n", b" ", b"{}"))).map(b"".join)))
@example(Arrival(b"\x0c\n", [b"\x0c\n"]))
@searched
def test_control_characters_are_content_for_both(arrival: Arrival) -> None:
    assert list(lines(arrival.chunks, NO_LIMIT)) == naive(arrival.data)


@pytest.mark.parametrize(
    "chunks", [[b"\xef", b"\xbb\xbf{}"], [b"\xef\xbb", b"\xbf{}"], [b"", BOM + b"{}"], in_bytes(BOM + b"{}")]
)
def test_a_mark_torn_apart_is_skipped_by_lines_too(chunks: list[bytes]) -> None:
    assert list(lines(chunks, NO_LIMIT)) == [Line(1, 3, 2, b"{}")]


@pytest.mark.parametrize("data", [b"\xef", b"\xef\xbb"])
def test_a_file_that_ends_inside_a_mark_is_a_line_all_the_same(data: bytes) -> None:
    assert count([data]) == 1 == sum(1 for _ in lines([data], NO_LIMIT))


def test_a_blank_line_over_the_limit_is_still_blank() -> None:
    assert list(lines([b" " * 20 + b"\n{}"], 10)) == [Line(2, 21, 2, b"{}")]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"\n\n \t\r\n", 0),
        (BOM, 0),
        (BOM + b"\r\n", 0),
        (b"{}", 1),
        (b"{}\n", 1),
        (b"{}\r\n{}\r\n", 2),
        (BOM + b"{}\n\n{}", 2),
        (BOM + BOM + b"\n{}", 2),  # only the first is a mark
        (b"\n" + BOM, 1),
        ('{"a":"\u2028"}\n{"b":"\u2029\x85"}'.encode(), 2),
        (b'{"a":"\r"}\r{"b":1}', 1),
    ],
)
def test_known_files(data: bytes, expected: int) -> None:
    assert count([data]) == count(in_bytes(data)) == expected
    assert [line.data for line in lines([data], NO_LIMIT)] == [line.data for line in naive(data)]
    assert len(naive(data)) == expected


@pytest.mark.parametrize(
    "chunks", [[b"{}\n ", b"{}"], [b"{}\n\t", b"\r{}\n"], [b"{", b"}", b" \n\r", b"x\n "], [b" {}", b"\n{}\n\t"]]
)
def test_blanks_before_a_cut_do_not_hide_the_line_after_it(chunks: list[bytes]) -> None:
    assert count(chunks) == len(list(lines(chunks, NO_LIMIT))) == 2


def test_numbers_are_those_an_editor_shows() -> None:
    data = b"\n\n{}\n \r\n{}\nxxxxxxxxxxx\n{}"
    assert [(line.number, line.data) for line in lines([data], 10)] == [(3, b"{}"), (5, b"{}"), (6, None), (7, b"{}")]


def test_a_line_may_be_exactly_as_long_as_the_limit() -> None:
    data = b"x" * 10 + b"\n" + b"y" * 11 + b"\n" + b"z" * 10
    for chunks in ([data], in_bytes(data)):
        assert [line.data for line in lines(chunks, 10)] == [b"x" * 10, None, b"z" * 10]
        assert [line.length for line in lines(chunks, 10)] == [10, 11, 10]


def peak_of(chunks: Iterator[bytes], limit: int) -> tuple[int, int]:
    """Lines found, and the bytes that were allocated at the worst moment."""
    tracemalloc.start()
    found = sum(1 for _ in lines(chunks, limit))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found, peak


def test_a_line_of_64_mib_is_not_held_in_memory() -> None:
    found, peak = peak_of((b"x" * (1 << 20) + b"%d" % number for number in range(64)), 1 << 21)
    assert found == 1
    assert peak < 8 << 20


def test_a_hundred_megabytes_of_lines_are_read_with_flat_memory() -> None:
    chunk = (b"x" * 65535 + b"\n") * 16
    found, peak = peak_of((chunk for _ in range(100)), 1 << 20)
    assert found == 1600
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x1f\x8b\x08\0", "gzip"),
        ("{}".encode("utf-16"), "UTF-16"),
        (b"\xfe\xff\0{", "UTF-16"),
        (b"PK\x03\x04", "a zip archive"),
        (b"%PDF-1.7", "a PDF"),
        (b'{"a":1}', None),
        (BOM + b"{}", None),
        (b"", None),
    ],
)
def test_a_file_in_disguise_is_called_by_its_name(head: bytes, name: str | None) -> None:
    assert disguise(head) == name
