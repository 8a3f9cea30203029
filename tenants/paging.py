"""A table of any size, read a piece at a time: no cursor is kept open, and a slow reader keeps no query running."""

from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet

PIECE = 1_000  # rows


def by_pk(rows: QuerySet[Any], piece: int = PIECE) -> Iterator[Any]:
    """All of them, oldest first. What is written meanwhile may be among them, or not."""
    rest = rows = rows.order_by("pk")
    while found := list(rest[:piece]):
        yield from found
        rest = rows.filter(pk__gt=found[-1].pk)
