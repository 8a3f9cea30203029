"""Stored objects that nobody names: what a crash in the middle of an upload, a plan or a results file leaves behind."""

import logging
from collections.abc import Iterator
from datetime import timedelta

from django.core.files.storage import default_storage

from batches import objects
from batches.models import Batch, File
from tenants import clock

log = logging.getLogger(__name__)

KINDS = ("inputs", "plans", "results", "receipts", "ready")  # the folders that this service writes to
AGE = timedelta(days=1)  # younger ones may be on their way
LOOKED_UP = 500  # keys a query


def remove() -> int:
    """Delete objects older than a day that no row names, and uploads that never ended; returns how many."""
    removed = objects.abort_unfinished(KINDS, clock.now() - AGE)
    for keys in _pages(key for kind in KINDS for key in _objects(kind)):
        named = set(File.objects.filter(storage_key__in=keys).values_list("storage_key", flat=True))
        named |= set(Batch.objects.filter(plan_key__in=keys).values_list("plan_key", flat=True))
        for key in set(keys) - named:
            if default_storage.get_modified_time(key) < clock.now() - AGE:
                objects.delete(key)
                removed += 1
    if removed:
        log.warning("%d stored objects that no row names were removed", removed)
    return removed


def _objects(folder: str) -> Iterator[str]:
    try:
        folders, files = default_storage.listdir(folder)
    except FileNotFoundError:
        return
    for name in files:
        yield f"{folder}/{name}"
    for name in folders:
        yield from _objects(f"{folder}/{name}")


def _pages(keys: Iterator[str]) -> Iterator[list[str]]:
    page: list[str] = []
    for key in keys:
        page.append(key)
        if len(page) == LOOKED_UP:
            yield page
            page = []
    if page:
        yield page
