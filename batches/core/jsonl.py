"""Lines of a JSONL input: counting them while it arrives, cutting it into lines afterwards. Pure.

Split on b"\\n" alone: U+2028 and "\\r" are content. Blank lines are skipped, a UTF-8 byte order mark at the start too.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r"
_BLANKS = BLANK + b"\n"
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


class _Mark:
    """Takes a byte order mark off the start of a stream, holding back bytes that may become one."""

    def __init__(self) -> None:
        self.skipped = 0  # bytes
        self.held = b""
        self._open = True

    def strip(self, chunk: bytes) -> bytes:
        if not self._open:
            return chunk
        start = self.held + chunk
        if len(start) < len(BOM) and BOM.startswith(start):
            self.held = start
            return b""
        self.held, self._open = b"", False
        self.skipped = len(BOM) if start.startswith(BOM) else 0
        return start[self.skipped :]


class LineCounter:
    """Counts the non-blank lines of a stream, however it is cut into chunks; `count` is right at any time."""

    def __init__(self) -> None:
        self._count = 0
        self._inside = False  # the current line has content already
        self._mark = _Mark()

    @property
    def count(self) -> int:
        return self._count + bool(self._mark.held)

    def feed(self, chunk: bytes) -> None:
        chunk = self._mark.strip(chunk)
        newline = chunk.rfind(b"\n")
        start = chunk.find(b"\n") if self._inside else 0
        if start >= 0:
            self._count += sum(1 for _ in _FILLED.finditer(chunk, start))
        if newline >= 0:
            self._inside = bool(chunk[newline + 1 :].strip(BLANK))
        else:
            self._inside = self._inside or bool(chunk.strip(BLANK))


def disguise(head: bytes) -> str | None:
    """What the file is, when its first bytes say that it can't be JSONL in UTF-8."""
    return next((name for magic, name in _NOT_JSONL.items() if head.startswith(magic)), None)


def lines(chunks: Iterable[bytes], limit: int) -> Iterator[Line]:
    """Cut a stream into its non-blank lines, holding at most `limit` bytes and one chunk in memory.

    Blank lines are passed over by the regex and `count`, not one by one: a file may be nothing else.
    """
    mark = _Mark()
    number, base = 1, 0
    current = _Open(limit)
    for piece in chunks:
        chunk = mark.strip(piece)
        position = chunk.find(b"\n") + 1
        if position:
            current.begin(base).add(chunk[: position - 1])
            yield from current.line(number, mark.skipped)
            number, current = number + 1, _Open(limit)
            while position < len(chunk):
                filled = position  # its first byte that is not blank: mostly the first
                if chunk[position] in _BLANKS:
                    match = _FILLED.search(chunk, position)
                    filled = match.start() if match else len(chunk)
                    start = chunk.rfind(b"\n", position - 1, filled) + 1
                    number += chunk.count(b"\n", position, start)
                    position = start
                end = chunk.find(b"\n", filled)
                if end < 0:
                    break
                data = chunk[position:end] if end - position <= limit else None
                yield Line(number, mark.skipped + base + position, end - position, data)
                number, position = number + 1, end + 1
        current.begin(base + position).add(chunk[position:])
        base += len(chunk)
    current.begin(base).add(mark.held)
    yield from current.line(number, mark.skipped)


class _Open:
    """The line that is being read."""

    __slots__ = ("_filled", "_length", "_limit", "_offset", "_pieces")

    def __init__(self, limit: int) -> None:
        self._limit, self._length, self._filled, self._offset = limit, 0, False, -1
        self._pieces: list[bytes] = []

    def begin(self, offset: int) -> "_Open":
        """Its first byte is at `offset`, unless it began before."""
        if self._offset < 0:
            self._offset = offset
        return self

    def add(self, piece: bytes) -> None:
        self._length += len(piece)
        if self._length <= self._limit:
            self._pieces.append(piece)
        else:
            self._pieces.clear()
        self._filled = self._filled or bool(piece.strip(BLANK))

    def line(self, number: int, skipped: int) -> Iterator[Line]:
        """The finished line, unless it is blank."""
        if self._filled:
            data = b"".join(self._pieces) if self._length <= self._limit else None
            yield Line(number, skipped + self._offset, self._length, data)
