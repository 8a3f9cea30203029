"""Whether the service holds: it answers who reads, and sends, charges and deletes nothing, until somebody has decided.

It holds where the database is not the one that the storage was marked by (batches/marks.py), after a restore, or on
request. One row says so. Queries that lead to work have `working` in them, so that a hold counts wherever something is
claimed; everybody else asks `held`. docs/decisions/0044-restore.md
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import NamedTuple

from django.db import transaction
from django.db.models import Exists, Q

from tenants import clock, trail
from tenants.errors import Refused
from tenants.models import Mark

Why = Mark.Why
ONLY = 1  # the row's key
TEXTS = {
    Why.DATABASE_OLDER: "The database is older than the files in the storage: it was restored, or another one was.",
    Why.DATABASE_FORKED: "Another copy of this database works with the same storage.",
    Why.STORAGE_OLDER: "The storage is older than the database, or is another one.",
    Why.RESTORED: "The database was restored from a backup.",
    Why.OPERATOR: "The operator holds the service.",
}
RETRY_AFTER = 60  # seconds

_deciding: ContextVar[bool] = ContextVar("deciding", default=False)


class Held(NamedTuple):
    """A hold: since when, by whom, why (a code, and a sentence)."""

    since: datetime
    by: str
    why: str
    text: str
    note: str


def row() -> Mark:
    """The row; as it begins, where there is none yet."""
    return Mark.objects.filter(pk=ONLY).first() or Mark(pk=ONLY)


def held() -> Held | None:
    """The hold that is in force. One query."""
    found = row()
    if found.held_at is None:
        return None
    return Held(found.held_at, found.held_by, found.held_why, TEXTS[Why(found.held_why)], found.held_note)


def working() -> Q:
    """True of any row while the service does not hold; and for whoever decides what becomes of a hold."""
    return Q() if _deciding.get() else Q(~Exists(Mark.objects.exclude(held_at=None)))


@contextmanager
def deciding() -> Iterator[None]:
    """Within it, work is done although the service holds: a batch that an operator has decided on."""
    token = _deciding.set(True)
    try:
        yield
    finally:
        _deciding.reset(token)


def is_deciding() -> bool:
    return _deciding.get()


def check() -> None:
    """Raises Refused 503 while the service holds, but for who decides about that."""
    if not is_deciding() and held():
        raise refusal()


def refusal() -> Refused:
    """What it acknowledged now might be lost with this database."""
    message = "The service was restored, and takes nothing until its operator has looked at it. Reading works."
    return Refused(503, "service_held", message, headers={"Retry-After": str(RETRY_AFTER)})


def hold(why: str, by: str, note: str = "") -> bool:
    """Begin to hold; False when it does already. Objects of the time from the database's last mark on are kept."""
    now = clock.now()
    with transaction.atomic():
        found, _ = Mark.objects.get_or_create(pk=ONLY)
        begun = Mark.objects.filter(pk=ONLY, held_at=None).update(
            held_at=now, held_by=by, held_why=why, held_note=note[:300],
            gap_from=_earlier(found.gap_from, found.moved_at or now), gap_until=now,
        )  # fmt: skip
        if begun:
            trail.record(None, by, "hold.begun", why, reason=note or TEXTS[Why(why)])
    return begun == 1


def _earlier(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else min(one, other)


def release(by: str, reason: str, number: int, token: str) -> bool:
    """End the hold, with a number beyond all that the storage has; False when there is none."""
    now = clock.now()
    with transaction.atomic():
        ended = Mark.objects.filter(pk=ONLY).exclude(held_at=None).update(
            held_at=None, held_by="", held_why="", held_note="",
            number=number, token=token, anchor=0, moved_at=now, gap_until=now,
        )  # fmt: skip
        if ended:
            trail.record(None, by, "hold.ended", "service", reason=reason)
    return ended == 1
