"""Why lines of a batch were not delivered: grouped by cause, one query over its rows, and a few of their messages.

The rows are read by the index of batch and line: 50,000 failed ones take 75 ms on SQLite, 40 on PostgreSQL. An index by
cause made it no faster on SQLite and 26 ms on PostgreSQL, and every failed line would have had to write it.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.db.models import Count, Max, Min, QuerySet

from batches import codes, lines
from batches.core import causes, showing
from batches.core.states import ACTIVE, Status
from batches.models import Batch, Result
from tenants.errors import Refused

HEAD = 8 * 1024  # bytes of an output line, in which a failure's message is looked for
TOLD, TOLD_ACTIVE = 8, 3  # causes of which messages are read; while a batch runs each is a segment to unpack
AGAIN = (causes.UPSTREAM_ERROR, "model_not_found")  # beside the errors of lines that were sent
NEVER_RUN = {Status.CANCELLED: "batch_cancelled", Status.EXPIRED: "batch_expired"}


class Group(NamedTuple):
    """Lines of one cause. `line` is an example of them, or 0."""

    cause: str
    code: str
    status: int | None
    lines: int
    meaning: codes.Code | None
    line: int = 0
    custom_id: str = ""
    messages: tuple[str, ...] = ()

    @property
    def is_bad(self) -> bool:
        """Whether the lines are at fault: to run the same bytes again is of no use."""
        return self.code not in codes.documented(codes.LINES) and self.code not in AGAIN


def failed(batch: Batch) -> QuerySet[Result]:
    """The rows of its lines that were not delivered."""
    return Result.objects.filter(batch=batch).exclude(error_code="")


def counts(batch: Batch) -> list[dict[str, Any]]:
    """Its causes, the most frequent first: error_code, status_code, count, first and last line."""
    grouped = failed(batch).values("error_code", "status_code").order_by()
    counted: Any = grouped.annotate(count=Count("pk"), first=Min("line"), last=Max("line"))
    return sorted(counted, key=lambda each: (-each["count"], each["first"]))


def groups(batch: Batch) -> list[Group]:
    """The digest: of a batch that runs as far as it is, of one that never ran what is wrong with its input."""
    if batch.status == Status.FAILED:
        return list(_of_input(batch))
    counted = counts(batch)
    examples = _examples(batch, counted)
    found = [_group(each, examples) for each in counted]
    if left := never_run(batch):
        code = NEVER_RUN[Status(batch.status)]
        found.append(Group(code, code, None, left, codes.meaning(code, None)))
    return sorted(found, key=lambda group: -group.lines)


def never_run(batch: Batch) -> int:
    """Lines of an ended batch that have no row."""
    return batch.total - batch.completed - batch.failed if batch.status in NEVER_RUN else 0


def _group(counted: dict[str, Any], examples: dict[int, tuple[str, str]]) -> Group:
    code, status, first = counted["error_code"], counted["status_code"], counted["first"]
    custom_id, message = examples.get(first, ("", ""))
    other = examples.get(counted["last"], ("", ""))[1]
    alike = showing.kind_of(message) == showing.kind_of(other)
    return Group(
        cause=causes.name(code, status),
        code=code,
        status=status,
        lines=counted["count"],
        meaning=codes.meaning(code, status),
        line=first,
        custom_id=custom_id,
        messages=tuple(each for each in (message, "" if alike else other) if each),
    )


def _examples(batch: Batch, counted: list[dict[str, Any]]) -> dict[int, tuple[str, str]]:
    """Of each group's first line, and some last ones, custom_id and message; the latter of the largest groups."""
    active = batch.status in ACTIVE
    told = counted[: TOLD_ACTIVE if active else TOLD]
    heard = {each["first"] for each in told} | (set() if active else {each["last"] for each in told})
    rows = list(Result.objects.filter(batch=batch, line__in=heard | {each["first"] for each in counted}))
    try:
        bodies = lines.starts(batch, [row for row in rows if row.line in heard], HEAD)
    except Refused:  # not stored any more: the figures are
        bodies = {}
    return {row.line: (row.custom_id, showing.message(bodies[row.line]) if row.line in bodies else "") for row in rows}


def _of_input(batch: Batch) -> Iterator[Group]:
    """The faults that validation found: all counted, with the first that is listed of each."""
    errors = json.loads(batch.errors) if batch.errors else {"data": [], "counts": {}}
    for code, count in errors["counts"].items():
        first: dict[str, Any] = next((each for each in errors["data"] if each["code"] == code), {})
        message, line = first.get("message") or "", first.get("line") or 0
        meaning = codes.of_lines().get(code)
        yield Group(code, code, None, count, meaning, line, messages=(message,) if message else ())
