"""Checks one after the other, each in a thread that is left behind when its time is over."""

import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from django.db import connections

from provocative.doctor.findings import Check, Finding, Level, error
from tenants import scope

LONGEST = 200  # characters of an exception's text
HANGS = "Something that it asks does not answer: see that it runs, and that the network leads there."
BROKEN = "Read the check's line in docs/operating.md."


class Told(NamedTuple):
    """A finding, of which check, and whether its thread still hangs."""

    name: str
    finding: Finding
    hangs: bool = False


def run(checks: Iterable[Check]) -> Iterator[Told]:
    """What each finds, as soon as it is known."""
    failed: set[str] = set()
    for check in checks:
        if broken := [name for name in check.needs if name in failed]:
            failed.add(check.name)
            yield Told(check.name, Finding(Level.SKIPPED, f"Not looked at before {broken[0]} is mended."))
            continue
        for told in _taken(check):
            if told.finding.level is Level.ERROR:
                failed.add(check.name)
            yield told


def _taken(check: Check) -> list[Told]:
    found: list[Finding] = []
    look = threading.Thread(target=scope.carried(_look), args=(check, found), name=check.name, daemon=True)
    look.start()
    look.join(check.seconds)
    if look.is_alive():
        seen = f"No answer within {check.seconds:.0f} seconds."
        return [*(Told(check.name, finding) for finding in found), Told(check.name, error(seen, HANGS), hangs=True)]
    return [Told(check.name, finding) for finding in found]


def _look(check: Check, found: list[Finding]) -> None:
    try:
        found.extend(check.look())
    except Exception as fault:  # whatever it is, the other checks are still to be taken
        found.append(error(reason(fault), BROKEN))
    finally:
        connections.close_all()  # this thread's own


def reason(fault: BaseException) -> str:
    """The first line of an exception, with its kind."""
    text = next(iter(str(fault).strip().splitlines()), "")
    return f"{type(fault).__name__}: {text[:LONGEST]}".removesuffix(": ")
