"""Stored objects that nobody names: what a crash in the middle of an upload, a plan or a results file leaves behind."""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

from batches import marks, objects
from batches.models import Batch, File
from tenants import clock, holding
from tenants.models import Mark

log = logging.getLogger(__name__)

KINDS = ("inputs", "plans", "results", "receipts", "ready")  # the folders that this service writes to
AGE = timedelta(days=1)  # younger ones may be on their way
AGE_OF_LOST = timedelta(days=30)  # rows of a restored database that named them are lost: somebody may want them
SKEW = timedelta(minutes=10)  # between the storage's clock and the database's
LOOKED_UP = 500  # keys a query


def remove() -> int:
    """Delete objects older than a day that no row names, and uploads that never ended; returns how many.

    Of a time that a restored database knows nothing of they stay for longer, and while the service holds all do.
    """
    if not marks.look():
        return 0
    removed, row = _abort_unfinished(), holding.row()
    for key in unnamed():
        if _is_over(objects.modified(key), row):
            objects.delete(key)
            removed += 1
    if removed:
        log.warning("%d stored objects that no row names were removed", removed)
    return removed


def _abort_unfinished() -> int:
    try:
        return objects.abort_unfinished(KINDS, clock.now() - AGE)
    except OSError as error:  # a key of S3 needs a right of its own for that: the rest is done all the same
        log.warning("uploads that never ended can't be looked for, their parts stay in the storage: %s", error)
        return 0


def unnamed() -> Iterator[str]:
    """Keys of stored objects that no row names. Raises OSError."""
    for keys in _pages(key for kind in KINDS for key in objects.keys(kind)):
        named = set(File.objects.filter(storage_key__in=keys).values_list("storage_key", flat=True))
        named |= set(Batch.objects.filter(plan_key__in=keys).values_list("plan_key", flat=True))
        yield from sorted(set(keys) - named)


def _is_over(written: datetime, row: Mark) -> bool:
    lost = row.gap_from and row.gap_until and row.gap_from - SKEW <= written <= row.gap_until + SKEW
    return written < clock.now() - (AGE_OF_LOST if lost else AGE)


def _pages(keys: Iterator[str]) -> Iterator[list[str]]:
    page: list[str] = []
    for key in keys:
        page.append(key)
        if len(page) == LOOKED_UP:
            yield page
            page = []
    if page:
        yield page
