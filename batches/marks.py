"""Whether this database is the one whose files are in the storage: compared before work begins, and at each sweep.

The storage is read before the database: what is written there was committed before, so in a database that never went
back it is never the greater. core/marks.py says what follows; a difference makes the service hold (tenants/holding.py).
"""

import logging
import secrets
from contextlib import suppress
from datetime import timedelta
from threading import Event

from batches import objects
from batches.core import marks
from batches.core.marks import Mark
from tenants import clock, holding, trail
from tenants.models import Mark as Row

log = logging.getLogger(__name__)

FOLDER = "mark"
OFTEN = timedelta(minutes=1)  # between two marks of a service in which nothing is charged
LEFTOVERS = 100  # that are removed at once
LOOKS = 2  # a difference is looked at again before anything follows from it

_compared = Event()  # in this process: then a storage that fails for a while stops nothing


def stored() -> list[Mark]:
    """The storage's marks, the greatest last. Raises OSError."""
    return marks.read(objects.names(FOLDER))


def look() -> bool:
    """Compare, and hold where it differs. Whether work may begin: for whoever decides about a hold it may."""
    return holding.is_deciding() or (holding.held() is None and not _differs())


def _differs() -> bool:
    why = ""
    for _ in range(LOOKS):
        try:
            there = stored()
        except OSError as error:
            log.warning("the storage's mark can't be read: %s", error)
            return not _compared.is_set()
        row = holding.row()
        why = marks.difference(Mark(row.number, row.token), row.anchor, there)
        if not why:
            _compared.set()
            return False
    if holding.hold(why, trail.SERVICE, f"The database's mark is {row.number}, the storage's {_top(there)}."):
        log.critical("the service holds (%s): `manage.py hold report` tells what to decide", why)
    return True


def _top(there: list[Mark]) -> int:
    return there[-1].number if there else 0


def move() -> None:
    """Something was charged, or a backup was made: from now on an earlier state of the database is known as such."""
    if look():
        _advance(holding.row())


def tick() -> bool:
    """What a sweep begins with: `look`, and once a minute a new mark. Whether the sweep may go on."""
    if not look():
        return False
    row = holding.row()
    if row.moved_at is None or row.moved_at < clock.now() - OFTEN:
        try:
            there = stored()
        except OSError:
            return True
        known = Mark(row.number, row.token) in there
        _advance(row, **({"anchor": row.number} if known else {}))
        for mark in there[:-1][:LEFTOVERS]:  # of writers that were late, or died
            _forget(mark)
    return True


def _advance(row: Row, **columns: int) -> None:
    """Compare and set, then tell the storage. Who is beaten to it need not: the winner came after what it is for."""
    Row.objects.get_or_create(pk=holding.ONLY)
    fresh = Mark(row.number + 1, secrets.token_hex(8))
    mine = Row.objects.filter(pk=holding.ONLY, number=row.number, held_at=None)
    if mine.update(number=fresh.number, token=fresh.token, moved_at=clock.now(), **columns) and _write(fresh):
        _forget(Mark(row.number, row.token))


def _write(mark: Mark) -> bool:
    try:
        with objects.Writer(f"{FOLDER}/{mark.name}") as writer:
            writer.write(f"{clock.now().isoformat()}\n".encode())
    except OSError as error:
        log.warning("the storage takes no mark, the next one will do: %s", error)
        return False
    return True


def _forget(mark: Mark) -> None:
    """Once a greater one is stored."""
    with suppress(OSError):
        objects.delete(f"{FOLDER}/{mark.name}")


def release(by: str, reason: str) -> bool:
    """End a hold: this database is the storage's from now on. False when there is none. Raises OSError."""
    fresh = Mark(max(_top(stored()), holding.row().number) + 1, secrets.token_hex(8))
    if not holding.release(by, reason, *fresh):
        return False
    _write(fresh)
    return True
