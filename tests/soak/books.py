"""The three ledgers held against each other: what the upstreams answered, what is stored and was served, what was
charged. Pure: it finds what is wrong in what it is given."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.soak.asking import Asked, cost

SLACK = 1.0  # seconds between the time of a result and the end of its transaction
LIMITED = "shared-4"  # world.py gives it a limit of tokens: what is too much for it fails
TERMINAL = ("completed", "failed", "cancelled", "expired")


class Row(NamedTuple):
    """A stored result."""

    delivered: bool
    cost: int  # pico-USD
    at: float  # unix time
    code: str = ""  # of its error


@dataclass
class Stored:
    """A batch in the database: its row, its results by line, its charges."""

    batch: str
    number: int | None  # of the submission; None: its tenant deleted what would tell
    status: str
    total: int
    completed: int
    failed: int
    cost: int
    rows: dict[int, Row] = field(default_factory=dict)
    charges: list[int] = field(default_factory=list)
    errors: str = ""  # what its file is said to have


Heard = Mapping[int, tuple[int, float]]  # line: its good answers at the upstreams, and when it came there last


def batch_findings(
    asked: Asked, stored: Stored, heard: Heard, price: tuple[int, int], asleep: list[tuple[float, float]]
) -> Iterator[str]:
    """What is wrong with one batch. `asleep`: when processes slept beyond their leases; they may send anew then."""
    what = f"submission {asked.number} ({stored.batch}, {stored.status})"
    for finding in (
        *_rows(asked, stored),
        *_upstreams(asked, stored, heard, asleep),
        *_money(asked, stored, price),
        *_served(asked, stored),
    ):
        yield f"{what}: {finding}"


def _rows(asked: Asked, stored: Stored) -> Iterator[str]:
    """Nothing lost, nothing twice, nothing of what never was asked."""
    rows = stored.rows
    if stored.status not in TERMINAL:
        yield "it has not ended"
    if asked.wrong:
        if stored.status not in ("failed", "cancelled", "expired") or rows:
            yield f"its file is wrong ({asked.wrong}), and it is {stored.status} with {len(rows)} results"
        return
    if stored.status == "failed" and not (
        asked.tenant == LIMITED and '"counts": {"token_limit_exceeded"' in stored.errors
    ):
        yield f"it failed, and its file is well: {stored.errors}"
    if stored.total != len(asked.sizes):
        yield f"{len(asked.sizes)} lines were sent, {stored.total} are counted"
    if len(rows) != stored.completed + stored.failed:
        yield f"{len(rows)} results, {stored.completed} + {stored.failed} counted"
    delivered = sum(row.delivered for row in rows.values())
    if delivered != stored.completed:
        yield f"{delivered} delivered, {stored.completed} counted"
    if stored.status == "completed" and len(rows) != stored.total:
        yield f"{stored.total - len(rows)} of {stored.total} lines were lost"
    yield from _lines(asked, stored)


def _lines(asked: Asked, stored: Stored) -> Iterator[str]:
    rows = stored.rows
    if strange := [line for line in rows if not 1 <= line <= stored.total]:
        yield f"lines {strange[:5]} never were sent"
    if failed := [(line, row.code) for line, row in rows.items() if not row.delivered and line not in asked.doomed]:
        yield f"{len(failed)} lines failed that nothing was wrong with, such as {failed[:5]}"


def _upstreams(asked: Asked, stored: Stored, heard: Heard, asleep: list[tuple[float, float]]) -> Iterator[str]:
    rows = stored.rows
    if invented := [line for line, row in rows.items() if row.delivered and not heard.get(line, (0, 0.0))[0]]:
        yield f"{len(invented)} lines were delivered that no upstream answered, such as {invented[:5]}"
    if stored.status == "completed":
        kept = {line for line, row in rows.items() if row.delivered}
        if lost := [line for line, (answered, _) in heard.items() if answered and line not in kept]:
            yield f"{len(lost)} answers were lost, such as those of lines {lost[:5]}"
    again = [line for line, row in rows.items() if _after(heard.get(line, (0, 0.0))[1], row.at, asleep)]
    if again:
        yield f"{len(again)} finished lines were sent again, such as {again[:5]}"


def _after(arrived: float, finished: float, asleep: list[tuple[float, float]]) -> bool:
    return arrived > finished + SLACK and not any(begin <= arrived <= end for begin, end in asleep)


def _money(asked: Asked, stored: Stored, price: tuple[int, int]) -> Iterator[str]:
    lines = range(1, len(asked.sizes) + 1)
    due = {
        line: cost(asked.sizes[line - 1], price) for line, row in stored.rows.items() if row.delivered and line in lines
    }
    wrong = [line for line, row in stored.rows.items() if row.cost != due.get(line, 0)]
    if wrong:
        yield f"{len(wrong)} lines cost something else than the upstream's usage, such as {wrong[:5]}"
    if sum(due.values()) != stored.cost:
        yield f"it cost {stored.cost} pico-USD, its answers {sum(due.values())}"
    if stored.charges != ([] if stored.status == "failed" else [stored.cost]):
        yield f"charged {stored.charges} pico-USD for {stored.cost}"


def _served(asked: Asked, stored: Stored) -> Iterator[str]:
    read = asked.read
    if read is None:
        return
    if read.lines != stored.total or not read.in_order:
        yield f"its output has {read.lines} lines of {stored.total}{'' if read.in_order else ', out of order'}"
    if (read.delivered, read.cost) != (stored.completed, stored.cost):
        yield f"served were {read.delivered} answers for {read.cost}, stored {stored.completed} for {stored.cost}"


def submissions_findings(asked: list[Asked], stored: list[Stored]) -> Iterator[str]:
    """Each acknowledged submission is one batch; what was sent again for want of an answer is one, or none."""
    by_id = {one.batch: one for one in stored}
    found: dict[int, set[str]] = {}
    for one in asked:
        found[one.number] = set(one.ids)
        for batch in one.ids - by_id.keys():
            yield f"submission {one.number}: {batch} was acknowledged and is not there"
    for row in stored:
        if row.number is not None:
            found.setdefault(row.number, set()).add(row.batch)
    for one in asked:
        if found[one.number] and not (one.ids or one.uncertain):
            yield f"submission {one.number} was refused, and is {sorted(found[one.number])}"
        if len(found[one.number]) > 1:
            yield f"submission {one.number} is {len(found[one.number])} batches: {sorted(found[one.number])}"
    known = {batch for batches in found.values() for batch in batches}
    for batch in by_id.keys() - known:
        yield f"{batch} is nobody's"


def sent_again(lines: Mapping[str, tuple[int, float]]) -> int:
    """Answers that an upstream gave twice."""
    return sum(answered - 1 for answered, _ in lines.values() if answered > 1)


def hook_findings(ended: Mapping[str, str], told: Mapping[str, set[str]]) -> Iterator[str]:
    """Each end is told at least once, and as it was: batches and their status, batches and the events that came."""
    for batch, status in ended.items():
        events = told.get(batch, set())
        if f"batch.{status}" not in events:
            yield f"{batch}: that it {status} was not told"
        if others := events - {f"batch.{status}"}:
            yield f"{batch}: it {status}, and {sorted(others)} was told"
