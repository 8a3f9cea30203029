"""Lines of a JSONL input: counting them while it arrives, cutting it into lines afterwards. Pure.

Split on b"\\n" alone: U+2028 and "\\r" are content. Blank lines are skipped, a UTF-8 byte order mark at the start too.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r"
_FILLED = re.compile(rb"[^ \t\r\n][^\n]*")
_NOT_JSONL = {
    b"\x1f\x8b": "gzip",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK\x03\x04": "a zip archive",
    b"%PDF": "a PDF",
}


class Line(NamedTuple):
    """A line that is not blank. `number` is 1-based; `data` is None when it is longer than the limit."""

    number: int
    offset: int  # of its first byte in the file
    length: int  # bytes, without the newline
    data: bytes | None


class LineCounter:
    """Counts the non-blank lines of a stream, however it is cut into chunks; `count` is right at any time."""

    def __init__(self) -> None:
        self.count = 0
        self._inside = False  # the current line has content already
        self._head = b""  # the first bytes, until it is known whether they are a byte order mark
        self._started = False

    def feed(self, chunk: bytes) -> None:
        if not self._started:
            self._head += chunk
            if len(self._head) < len(BOM) and BOM.startswith(self._head):
                return
            chunk, self._head, self._started = self._head.removeprefix(BOM), b"", True
        self._feed(chunk)

    def _feed(self, chunk: bytes) -> None:
        newline = chunk.rfind(b"\n")
        start = chunk.find(b"\n") if self._inside else 0
        if start >= 0:
            self.count += sum(1 for _ in _FILLED.finditer(chunk, start))
        if newline >= 0:
            self._inside = bool(chunk[newline + 1 :].strip(BLANK))
        else:
            self._inside = self._inside or bool(chunk.strip(BLANK))


def disguise(head: bytes) -> str | None:
    """What the file is, when its first bytes say that it can't be JSONL in UTF-8."""
    return next((name for magic, name in _NOT_JSONL.items() if head.startswith(magic)), None)


def lines(chunks: Iterable[bytes], limit: int) -> Iterator[Line]:
    """Cut a stream into its non-blank lines, holding at most `limit` bytes and one chunk in memory."""
    number, offset, first = 1, 0, True
    held: list[bytes] = []
    held_length = 0
    for chunk in chunks:
        if first:
            first = False
            if chunk.startswith(BOM):
                chunk, offset = chunk[len(BOM) :], len(BOM)
        head, *rest = chunk.split(b"\n")
        held_length += len(head)
        if held_length <= limit:
            held.append(head)
        for following in rest:
            yield from _line(number, offset, held, held_length, limit)
            offset += held_length + 1
            number += 1
            held, held_length = [following] if len(following) <= limit else [], len(following)
    yield from _line(number, offset, held, held_length, limit)


def _line(number: int, offset: int, held: list[bytes], length: int, limit: int) -> Iterator[Line]:
    if length > limit:
        yield Line(number, offset, length, None)
        return
    data = held[0] if len(held) == 1 else b"".join(held)
    if data and not data.isspace():
        yield Line(number, offset, length, data)
