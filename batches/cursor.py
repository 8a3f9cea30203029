"""Results in the order of their commit, a page after a cursor: for a reader that wants them as they come.

A result's seq is given under its batch's lock, 1, 2, 3 … without a gap, and `Batch.last_seq` moves in the same
transaction. So who has read up to N has missed nothing up to N, whatever is committed meanwhile. While a batch runs
its lines are read from the segments, which its end drops; then the same bytes stand in its results file.
"""

import zlib
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from django.db.models import Count, Sum

from batches import files, objects
from batches.core import jsonl
from batches.core.rendering import response_id
from batches.models import Batch, Result, Segment
from tenants.errors import Refused

PAGE_BYTES = 8 * 1024 * 1024  # of lines in a page, unless a single one is larger
GAP = 64 * 1024  # bytes between two lines that are read rather than asked for anew
MAX_RESULT = 1 << 40  # bytes of a line that we wrote ourselves: no limit


class Row(NamedTuple):
    """A result, and where its output line lies in its segment."""

    seq: int
    line: int
    segment: int
    offset: int
    length: int


def page(batch: Batch, after: int, limit: int) -> list[tuple[Row, bytes]]:
    """The results after seq `after` and up to the batch's last_seq, with their output lines.

    Raises Refused 410 when they are not stored any more.
    """
    rows = _rows(batch, after, min(after + limit, batch.last_seq))
    found = bodies(batch, rows)
    return [(row, found[row.line]) for row in rows]


def bodies(batch: Batch, rows: list[Row]) -> dict[int, bytes]:
    """The output lines of these results by their numbers; as much of each as the row's length says.

    Raises Refused 410 when they are not stored any more.
    """
    found = _from_segments(rows)
    return from_file(batch, rows) if found is None else found  # where the batch has ended, now or long ago


def _rows(batch: Batch, after: int, last: int) -> list[Row]:
    if last <= after:
        return []
    found = Result.objects.filter(batch=batch, seq__gt=after, seq__lte=last).order_by("seq")
    rows = [Row(*row) for row in found.values_list("seq", "line", "segment_id", "offset", "length")]
    if len(rows) < last - after:
        raise _gone()
    size, count = 0, 0
    for row in rows:
        size += row.length
        if count and size > PAGE_BYTES:
            break
        count += 1
    return rows[:count]


def _from_segments(rows: list[Row]) -> dict[int, bytes] | None:
    """The output lines by their numbers; None when a segment is gone."""
    found = {}
    for segment, some in groupby(rows, lambda row: row.segment):
        data = Segment.objects.filter(pk=segment).values_list("data", flat=True).first()
        if data is None:
            return None
        lines = zlib.decompress(data)
        for row in some:
            found[row.line] = lines[row.offset : row.offset + row.length]
    return found


def from_file(batch: Batch, rows: list[Row]) -> dict[int, bytes]:
    """The same where the batch has ended."""
    ended = Batch.objects.select_related("results_file").filter(pk=batch.pk).first()
    file = ended and ended.results_file
    if not ended or not file or files.is_gone(file):
        raise _gone()
    try:
        if ended.completed + ended.failed == ended.total:
            return dict(_ranges(file.storage_key, _starts(ended, rows)))
        return dict(_scanned(file.storage_key, ended, rows))
    except FileNotFoundError:
        raise _gone() from None


def _gone() -> Refused:
    return Refused(410, "file_expired", "The batch's results are not stored any more. The batch is still there.")


def _starts(batch: Batch, rows: list[Row]) -> list[tuple[int, Row]]:
    """Where the lines begin in a file that has each result's, in the order of the input and with a newline."""
    wanted = {row.line: row for row in rows}
    first, last = min(wanted), max(wanted)
    lengths = Result.objects.filter(batch=batch, line__gte=first, line__lte=last).order_by("line")
    starts, end = [], _bytes_before(batch, first)
    for line, length in lengths.values_list("line", "length").iterator(chunk_size=5000):
        if line in wanted:
            starts.append((end, wanted[line]))
        end += length + 1
    return starts


def _bytes_before(batch: Batch, line: int) -> int:
    """Of the output lines before this one, those of lines that were never run apart."""
    lengths = Result.objects.filter(batch=batch, line__lt=line).aggregate(bytes=Sum("length"), lines=Count("pk"))
    return (lengths["bytes"] or 0) + int(lengths["lines"])


def _ranges(key: str, starts: list[tuple[int, Row]]) -> Iterator[tuple[int, bytes]]:
    """Read them, neighbours in one go."""
    run: list[tuple[int, Row]] = []
    for start, row in starts:
        if run and (start - _end(run) > GAP or _end(run) - run[0][0] > PAGE_BYTES):
            yield from _range(key, run)
            run = []
        run.append((start, row))
    yield from _range(key, run)


def _end(run: list[tuple[int, Row]]) -> int:
    start, row = run[-1]
    return start + row.length


def _range(key: str, run: list[tuple[int, Row]]) -> Iterator[tuple[int, bytes]]:
    first = run[0][0]
    data = objects.read(key, first, _end(run) - first)
    for start, row in run:
        yield row.line, data[start - first : start - first + row.length]


def _scanned(key: str, batch: Batch, rows: list[Row]) -> Iterator[tuple[int, bytes]]:
    """Look for them in a file that has lines of requests that were never run, too: each begins with its id.

    From where the first of them is at the earliest, be that within a line.
    """
    wanted = {b'{"id":"resp_%b"' % response_id(batch.secret, row.line).encode(): row for row in rows}
    size = len(next(iter(wanted)))
    start = _bytes_before(batch, min(row.line for row in rows))
    for line in jsonl.lines(objects.chunks(key, start), MAX_RESULT):
        assert line.data is not None
        row = wanted.pop(line.data[:size], None)
        if row is not None:
            yield row.line, line.data[: row.length]
        if not wanted:
            return
