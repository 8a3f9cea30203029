"""The lines of a batch in the order of its input: PAGE at a time, by outcome, by custom_id.

A search reads the rows of this batch alone, by the index of batch and line, until a page is full: at most 50,000, which
takes 20 ms on SQLite and 10 on PostgreSQL. So custom_ids need no index, which every line's insert would pay for.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

from django.db.models import QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from batches import digest as digests
from batches.core import causes, planning, requests
from batches.core.states import ACTIVE, Status
from batches.models import Batch, Result, Slice
from batches.web import finding
from batches.web.looks import cents
from billing import money
from tenants.web.access import Seat, seat

PAGE = 50
ALL, DELIVERED, FAILED = "all", "delivered", "failed"
LAST = 10**9  # above every line's number
COLUMNS = (
    "line", "custom_id", "status_code", "error_code", "flag", "input_tokens", "output_tokens", "latency_ms", "attempts",
    "cost", "finished_at",
)  # fmt: skip


class Row(NamedTuple):
    """A line as the list shows it; `result` is None while it waits."""

    line: int
    result: Result | None = None
    label: str = "Waiting"
    look: str = "waiting"
    tokens: int = 0
    seconds: str = ""
    cost: str = ""


class Asked(NamedTuple):
    """What of the list is to be shown."""

    show: str
    name: str  # a custom_id, or the start of some
    after: int

    @property
    def is_all(self) -> bool:
        return self.show == ALL and not self.name


@require_safe
@seat()
def line_list(request: HttpRequest, seat: Seat, batch_id: str) -> HttpResponse:
    """PAGE lines after ?after= or from ?line= on, of an outcome (?show=), whose custom_id begins with ?name=."""
    batch = finding.batch(seat.tenant, batch_id)
    asked = _read(request)
    rows = list(_rows(batch, asked))
    context: dict[str, Any] = {
        "batch": batch,
        "rows": rows[:PAGE],
        "next": rows[PAGE - 1].line if len(rows) > PAGE else 0,
        "asked": asked,
        "choices": list(_choices(batch)),
        "never_run": digests.never_run(batch),
        "runs": batch.status in ACTIVE,
        "never_ran": batch.status == Status.FAILED,
    }
    return render(request, "batches/lines.html", context)


def _read(request: HttpRequest) -> Asked:
    """What makes no sense is left out: it is a page's address, which people edit."""
    show = request.GET.get("show", ALL)
    known = show in (ALL, DELIVERED, FAILED) or (show.isascii() and show.replace("_", "").isalnum())
    line = number(request.GET.get("line", ""))
    after = line - 1 if line else number(request.GET.get("after", ""))
    return Asked(show if known else ALL, request.GET.get("name", ""), after)


def number(text: str) -> int:
    """A line's number as people type it; 0 for what is none."""
    digits = text.strip().replace(",", "")
    return min(int(digits), LAST) if digits.isascii() and digits.isdigit() and len(digits) < 20 else 0


def of_outcome(batch: Batch, show: str) -> QuerySet[Result]:
    """The rows of lines with this outcome: all, delivered, failed, or a cause."""
    rows = Result.objects.filter(batch=batch)
    if show == ALL:
        return rows
    if show == DELIVERED:
        return rows.filter(error_code="")
    if show in (FAILED, causes.UPSTREAM_ERROR):
        return rows.exclude(error_code="") if show == FAILED else rows.filter(error_code=show)
    code, status = causes.row(show)
    return rows.filter(error_code=code, status_code=status)


def _rows(batch: Batch, asked: Asked) -> Iterable[Row]:
    """PAGE of them, and one more where there are more. The line with the very custom_id comes first."""
    rows = of_outcome(batch, asked.show).order_by("line").only(*COLUMNS)
    after = rows.filter(line__gt=asked.after)
    if not asked.name:
        found = [_row(result) for result in after[: PAGE + 1]]
        return _with_waiting(batch, asked.after, found) if asked.is_all and batch.status in ACTIVE else found
    if "\x00" in asked.name or len(asked.name) > requests.MAX_CUSTOM_ID:
        return []
    first = [] if asked.after else list(rows.filter(custom_id=asked.name)[:PAGE])
    begun = after.alias(head=Left("custom_id", len(asked.name))).filter(head=asked.name)
    return map(_row, chain(first, begun.exclude(custom_id=asked.name)[: PAGE + 1 - len(first)]))


def _row(result: Result) -> Row:
    return Row(
        line=result.line,
        result=result,
        label=outcome(result),
        look="bad" if result.error_code else "good",
        tokens=result.input_tokens + result.output_tokens,
        seconds=f"{result.latency_ms / 1000:,.2f} s",
        cost=cents(money.usd(result.cost)),
    )


def outcome(result: Result) -> str:
    """In a word: the status of the answer, or that there is none."""
    if not result.error_code:
        return f"{result.status_code} delivered"
    return f"{result.status_code} failed" if result.status_code else "Failed"


def _with_waiting(batch: Batch, after: int, found: list[Row]) -> list[Row]:
    """The rows among the planned lines that have none: their numbers stand in the slices, 20 bytes a line."""
    done = {row.line for row in found}
    end = found[PAGE].line if len(found) > PAGE else LAST
    waiting: list[int] = []
    for entries in Slice.objects.filter(batch=batch).exclude(state=Slice.State.DONE).values_list("entries", flat=True):
        waiting += [line for line in planning.numbers(bytes(entries)) if after < line < end and line not in done]
    return sorted([*found, *(Row(line) for line in sorted(waiting)[: PAGE + 1])])[: PAGE + 1]


def _choices(batch: Batch) -> Iterable[tuple[str, str]]:
    yield ALL, "All lines"
    yield DELIVERED, "Delivered"
    yield FAILED, "Failed"
    for each in digests.counts(batch) if batch.failed else ():
        cause = causes.name(each["error_code"], each["status_code"])
        words = f"HTTP {cause}" if causes.STATUS.fullmatch(cause) else cause
        yield cause, f"{words} ({each['count']:,})"
