"""What a check is, and what it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    OK = "ok"
    SKIPPED = "skipped"  # it needs something that another check found broken
    WARNING = "warning"
    ERROR = "error"


class Finding(NamedTuple):
    """What was seen, in a sentence, and what cures it. Nothing secret, and nothing of tenants' contents."""

    level: Level
    seen: str
    cure: str = ""


Look = Callable[[], Iterator[Finding]]


@dataclass(frozen=True)
class Check:
    """One look at a deployment. It is not taken when one that it `needs` has failed; `seconds` is all its time."""

    name: str
    look: Look
    needs: tuple[str, ...] = ()
    seconds: float = 10.0


def ok(seen: str) -> Finding:
    return Finding(Level.OK, seen)


def warning(seen: str, cure: str) -> Finding:
    return Finding(Level.WARNING, seen, cure)


def error(seen: str, cure: str) -> Finding:
    return Finding(Level.ERROR, seen, cure)
