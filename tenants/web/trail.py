"""Who did what in a tenant, newest first, for everybody of it to read; and the same as CSV."""

import csv
import io
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from tenants import trail, transfers
from tenants.models import AuditEvent, Tenant
from tenants.spreadsheet import plain
from tenants.web.access import Seat, seat

PAGE, CHUNK = 50, 500  # events of a page; of a piece of CSV
DIGITS = 18  # of an event's number
COLUMNS = ("when", "actor", "action", "what", "target", "details")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d(\.\d+)?(\+00:00|Z)")


class Row(NamedTuple):
    """An event as the page shows it."""

    event: AuditEvent
    what: str
    details: list[str]


@require_safe
@seat()
def trail_list(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The trail, PAGE events at a time, of one actor or one action if wished."""
    chosen, after = _chosen(request), request.GET.get("after", "")
    found = list(_after(_events(seat.tenant, chosen), after)[: PAGE + 1])
    context = {
        "rows": [Row(event, _what(event), details(event)) for event in found[:PAGE]],
        "chosen": chosen,
        "query": urlencode({name: value for name, value in chosen.items() if value}),
        "actions": sorted(trail.ACTIONS.items(), key=lambda action: action[1]),
        "after": after,
        "next": found[PAGE - 1].pk if len(found) > PAGE else "",
    }
    return render(request, "trail.html", context)


@require_safe
@seat()
def as_csv(request: HttpRequest, seat: Seat) -> HttpResponseBase:
    """All of what the filters leave, streamed."""
    pieces = transfers.Transfer(_pieces(_events(seat.tenant, _chosen(request))))
    answer = StreamingHttpResponse(pieces, content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = transfers.disposition(f"trail-{seat.tenant.public_id}.csv")
    return answer


def _pieces(events: QuerySet[AuditEvent]) -> Iterator[bytes]:
    """The CSV, CHUNK events at a time: a client that is slow keeps no query open."""
    yield _written([COLUMNS])
    rest = events
    while found := list(rest[:CHUNK]):
        yield _written([_cells(event) for event in found])
        rest = events.filter(pk__lt=found[-1].pk)


def details(event: AuditEvent) -> list[str]:
    """What an event's details say, a line each: `name: before → after`, or `name: value`."""
    told: dict[str, Any] = event.details if isinstance(event.details, dict) else {}
    before, after = told.get("before"), told.get("after")
    lines = []
    if isinstance(before, dict) and isinstance(after, dict):
        lines += [f"{_name(name)}: {_said(before.get(name))} → {_said(after[name])}" for name in after]
    elif "before" in told or "after" in told:
        lines.append(f"{_said(before)} → {_said(after)}")
    others = {name: value for name, value in told.items() if name not in ("before", "after")}
    return lines + [f"{_name(name)}: {_said(value)}" for name, value in others.items() if value not in ("", None)]


def _name(name: str) -> str:
    return name.replace("_", " ")


def _said(value: Any) -> str:
    match value:
        case None | "":
            return "none"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(_said, value)) or "none"
        case dict():
            return ", ".join(f"{_name(name)}: {_said(each)}" for name, each in value.items())
        case int():
            return f"{value:,}"
    return _MOMENT.sub(r"\1 \2 UTC", str(value))


def _what(event: AuditEvent) -> str:
    return trail.ACTIONS.get(event.action, event.action)


def _chosen(request: HttpRequest) -> dict[str, str]:
    return {name: request.GET.get(name, "").strip() for name in ("actor", "action")}


def _events(tenant: Tenant, chosen: dict[str, str]) -> QuerySet[AuditEvent]:
    wanted = {name: value for name, value in chosen.items() if value}
    rows = AuditEvent.objects.filter(tenant=tenant).order_by("-pk")
    return rows.none() if any("\x00" in value for value in wanted.values()) else rows.filter(**wanted)


def _after(rows: QuerySet[AuditEvent], after: str) -> QuerySet[AuditEvent]:
    """What is older than the event of this number, be it whose it may."""
    if not after:
        return rows
    if not (after.isascii() and after.isdigit() and len(after) <= DIGITS):
        raise Http404
    return rows.filter(pk__lt=int(after))


def _written(rows: list[tuple[str, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


def _cells(event: AuditEvent) -> tuple[str, ...]:
    texts = (event.actor, event.action, _what(event), event.target, "; ".join(details(event)))
    return (event.created_at.isoformat(timespec="seconds"), *map(plain, texts))
