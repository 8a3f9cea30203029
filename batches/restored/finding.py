"""What is in the storage that no row names; which of it is an unfinished batch's results; and what rows name in vain.

An object's key says nothing of whose it is. An output line does: its id follows from its batch's secret.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from batches import objects, orphans
from batches.core import jsonl, rendering, requests
from batches.models import Batch, File

_ID = re.compile(rb'\{"id":"resp_([0-9a-f]{24})"')
_HEAD = 64  # bytes, in which an output line's id stands


class Found(NamedTuple):
    """A stored object."""

    key: str
    bytes: int
    modified: datetime


def unknown() -> Iterator[Found]:
    """Objects that no row names. Raises OSError."""
    for key in orphans.unnamed():
        size = objects.size(key)
        if size is not None:
            yield Found(key, size, objects.modified(key))


def missing() -> Iterator[File]:
    """Files that are there by their rows, and whose objects are not. Raises OSError."""
    there = {key for kind in orphans.KINDS for key in objects.keys(kind)}
    for file in File.objects.exclude(storage_key="").order_by("pk").iterator(1_000):
        if file.storage_key not in there:
            yield file


def results(found: Iterable[Found], batches: Iterable[Batch]) -> dict[int, list[Found]]:
    """Objects that begin with the first line of one of the batches, by its key: its results, or a part of them."""
    whose = {_first(batch).encode(): batch.pk for batch in batches}
    by_batch: dict[int, list[Found]] = {}
    for each in found:
        if whose and each.key.startswith("results/") and (batch := whose.get(_id(each.key))):
            by_batch.setdefault(batch, []).append(each)
    return by_batch


def _first(batch: Batch) -> str:
    """The id of the output line of its first line."""
    try:
        pieces = objects.chunks(batch.input_file.storage_key)
        number = next((line.number for line in islice(jsonl.lines(pieces, requests.MAX_LINE), 1)), 1)
    except FileNotFoundError:
        number = 1
    return rendering.response_id(batch.secret, number)


def _id(key: str) -> bytes:
    match = _ID.match(b"".join(objects.chunks(key, 0, _HEAD)))
    return match[1] if match else b""


def whole(batch: Batch, found: Iterable[Found]) -> Found | None:
    """The one of these with as many lines as the batch has: all its results."""
    return next((each for each in found if _lines(each.key) == batch.total), None)


def _lines(key: str) -> int:
    return sum(piece.count(b"\n") for piece in objects.chunks(key))
