"""The mark: a number that the database and the storage both have, and what follows where they differ. Pure.

The database's grows, and is written to the storage after that is committed, as the name of an object. So the storage's
is never the greater one, unless the database has gone back. Each number has a random token: of two databases that
mark one storage, one finds another's token, or a greater number.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

_NAME = re.compile(r"([0-9]{12})-([0-9a-f]{1,32})")


class Mark(NamedTuple):
    number: int
    token: str

    @property
    def name(self) -> str:
        return f"{self.number:012}-{self.token}"


def read(names: Iterable[str]) -> list[Mark]:
    """The marks among names of objects, the greatest last."""
    found = filter(None, map(_NAME.fullmatch, names))
    return sorted(Mark(int(match[1]), match[2]) for match in found)


def difference(own: Mark, anchor: int, there: list[Mark]) -> str:
    """Why a database whose mark is `own` is not that of a storage with these; "" where it is. `anchor` is a number that
    the storage surely had."""
    top = there[-1].number if there else 0
    if top > own.number:
        return "database_older"
    if any(mark.number == own.number and mark != own for mark in there):
        return "database_forked"
    return "storage_older" if top < anchor else ""
