"""One line of a batch: its request and its output line side by side, its figures, what its error means."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from batches import codes, lines
from batches.core import showing
from batches.core.states import ACTIVE, Status
from batches.digest import NEVER_RUN
from batches.models import Batch, Result
from batches.web import finding
from batches.web.line_list import ALL, LAST, of_outcome, outcome
from batches.web.looks import cents
from billing import money
from tenants.errors import Refused, busy
from tenants.transfers import Transfer
from tenants.web.access import Seat, seat

PLACES = 8  # lines read at once: each may hold a few MiB, or a pass through an input
WHOLE = 1 << 40  # bytes
_places = threading.BoundedSemaphore(PLACES)
NOT_RUN = {
    Status.CANCELLED: "The batch was cancelled before this line was run.",
    Status.EXPIRED: "The 24 hours passed before this line was run.",
    Status.FAILED: "The batch never ran: its input is not valid.",
}
WAITS = "The line waits for its turn, or is being run: it has no result yet."
PARTS = ("request", "response")


class Panel(NamedTuple):
    """A text of the line, or why there is none."""

    name: str
    title: str
    text: str = ""
    bytes: int = 0
    cut: bool = False
    note: str = ""
    said: tuple[showing.Said, ...] = ()


@require_safe
@seat()
def line(request: HttpRequest, seat: Seat, batch_id: str, line: int) -> HttpResponseBase:
    """The line's page; with ?part=request or response that text alone, as a download."""
    batch = finding.batch(seat.tenant, batch_id)
    result = Result.objects.filter(batch=batch, line=line).first() if line <= LAST else None
    part = request.GET.get("part")
    if part in PARTS:
        return _download(batch, line, result, part)
    with place():
        panels = [asked(batch, line, result), answered(batch, result)]
    show = request.GET.get("show", ALL)
    rows = of_outcome(batch, show if show.isascii() and "\x00" not in show else ALL)
    context: dict[str, Any] = {
        "batch": batch,
        "line": line,
        "result": result,
        "label": outcome(result) if result else "Waiting" if batch.status in ACTIVE else "Not run",
        "look": "waiting" if not result else "bad" if result.error_code else "good",
        "latency": f"{result.latency_ms:,} ms" if result else "",
        "cost": cents(money.usd(result.cost)) if result else "",
        "meaning": _meaning(batch, result),
        "panels": panels,
        "show": show,
        "before": rows.filter(line__lt=line).order_by("-line").values_list("line", flat=True).first(),
        "next": rows.filter(line__gt=line).order_by("line").values_list("line", flat=True).first(),
    }
    return render(request, "batches/line.html", context)


@contextmanager
def place() -> Iterator[None]:
    """One of those that read a line now. Raises Refused 503 when there are enough."""
    if not _places.acquire(blocking=False):
        raise busy()
    try:
        yield
    finally:
        _places.release()


def _meaning(batch: Batch, result: Result | None) -> codes.Code | None:
    if result is None:
        code = NEVER_RUN.get(Status(batch.status), "")
        return codes.meaning(code, None) if code else None
    return codes.meaning(result.error_code, result.status_code) if result.error_code else None


def asked(batch: Batch, number: int, result: Result | None) -> Panel:
    """A line's request. Raises Http404 where the input has no such line."""
    try:
        found = lines.asked(batch, number) if 0 < number <= LAST else None
    except Refused as gone:
        if result is None and number > batch.total:
            raise Http404 from None
        return Panel("request", "Request", note=gone.message)
    if found is None:
        raise Http404
    return _panel("request", "Request", found.head, found.length)


def answered(batch: Batch, result: Result | None) -> Panel:
    """Its output line, or why there is none."""
    if result is None:
        return Panel("response", "Response", note=NOT_RUN.get(Status(batch.status), WAITS))
    try:
        data = lines.answered(batch, result)
    except Refused as gone:
        return Panel("response", "Response", note=gone.message)
    return _panel("response", "Response", data, result.length)


def _panel(name: str, title: str, data: bytes, length: int) -> Panel:
    whole = len(data) == length
    text = showing.pretty(data) if whole else data.decode(errors="replace")
    cut = not whole or len(text) > showing.SHOWN
    said = tuple(showing.conversation(data)) if whole else ()
    return Panel(name, title, text[: showing.SHOWN], length, cut, said=said)


def _download(batch: Batch, number: int, result: Result | None, part: str) -> HttpResponseBase:
    """The bytes as they are stored. Raises Http404, Refused 410 or 503."""
    if part == "request":
        with place():
            found = lines.asked(batch, number) if 0 < number <= LAST else None
        if found is None:
            raise Http404
        answer: HttpResponseBase = StreamingHttpResponse(Transfer(found.pieces()), content_type="application/json")
    else:
        if result is None:
            raise Http404
        with place():
            answer = HttpResponse(lines.answered(batch, result, WHOLE), content_type="application/json")
    answer["Content-Disposition"] = f'attachment; filename="{batch.public_id}_line_{number}_{part}.json"'
    return answer
