"""What a tenant has used: sums, a chart and a table of the days asked for, and all of it as CSV."""

import csv
import io
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from batches import keeping, metering
from batches.metering import MEASURES
from batches.web import charting
from batches.web.charting import Part
from batches.web.figures import dollars, percent
from billing import money
from tenants import transfers
from tenants.errors import Refused
from tenants.spreadsheet import plain
from tenants.web.access import Seat, seat

BY = {"day": "Day and model", "model": "Model", "key": "API key"}
MOST_ROWS = 150  # of the table; the CSV has all
COLUMNS = (
    "day", "model", "key_prefix", "key_name", "completed", "failed", "input_tokens", "cached_tokens", "output_tokens",
    "cost_usd",
)  # fmt: skip
SPOOL, PIECE = 1 << 20, 1 << 16  # bytes of the CSV: kept in memory, sent at once


class Row(NamedTuple):
    """A row of the table, or its sums: names are what it is of, figures as people read them."""

    names: tuple[str, ...]
    completed: str
    failed: str
    input_tokens: str
    cached_tokens: str
    output_tokens: str
    cost: str


@require_safe
@seat()
def usage(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Sums, chart and table; what is wrong with the days asked for stands beside them."""
    today = metering.today()
    by = request.GET.get("by", "day")
    context: dict[str, Any] = {"by": by if by in BY else "day", "metrics": charting.METRICS}
    context["stored"] = keeping.stored(seat.tenant.pk)
    try:
        first, last = _span(request, today)
    except Refused as refused:
        typed = {"first": request.GET.get("from", ""), "last": request.GET.get("to", "")}
        context |= typed | {"refused": refused, "presets": _presets(today, None)}
        return render(request, "usage.html", context, status=refused.status)
    parts = [Part(taken["day"], taken["model"], sums) for taken, sums in _report(seat, first, last, "day", "model")]
    rows = _rows(seat, first, last, context["by"], parts)
    sums = metering.total(part.taken for part in parts)
    context |= {
        "first": first.isoformat(),
        "last": last.isoformat(),
        "presets": _presets(today, (first, last)),
        "groups": [(name, label, _query(first, last, name)) for name, label in BY.items()],
        "query": _query(first, last),
        "heads": ("Day", "Model") if context["by"] == "day" else (BY[context["by"]],),
        "rows": rows[:MOST_ROWS],
        "more": max(len(rows) - MOST_ROWS, 0),
        "sums": _row((), sums),
        "cached_share": percent(sums["cached_tokens"], sums["input_tokens"]),
        "chart": charting.chart(parts, first, last),
    }
    return render(request, "usage.html", context)


@require_safe
@seat()
def usage_csv(request: HttpRequest, seat: Seat) -> HttpResponseBase:
    """By day, model and key, with exact amounts; in pieces."""
    first, last = _span(request, metering.today())
    pieces = transfers.Transfer(_pieces(_report(seat, first, last, "day", "model", "key")))
    response = StreamingHttpResponse(pieces, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = transfers.disposition(f"usage_{first}_{last}.csv")
    return response


def _report(seat: Seat, first: date, last: date, *by: str) -> Iterator[tuple[dict[str, Any], dict[str, int]]]:
    return metering.report(seat.tenant.pk, first, last, *by)


def _span(request: HttpRequest, today: date) -> tuple[date, date]:
    """The days asked for; without any, this month's. Raises Refused 400."""
    first, last = (request.GET.get(name) or None for name in ("from", "to"))
    if first is None and last is None:
        return today.replace(day=1), today
    return metering.span(first, last)


def _presets(today: date, shown: tuple[date, date] | None) -> list[tuple[str, str, bool]]:
    """Spans that are often asked for: what each is called, its query, and whether it is the one that is shown."""
    month = today.replace(day=1)
    before = month - timedelta(days=1)
    spans = {
        "This month": (month, today),
        "Last month": (before.replace(day=1), before),
        "7 days": (today - timedelta(days=6), today),
        "30 days": (today - timedelta(days=29), today),
    }
    return [(name, _query(*span), span == shown) for name, span in spans.items()]


def _query(first: date, last: date, by: str = "day") -> str:
    return urlencode({"from": first.isoformat(), "to": last.isoformat()} | ({} if by == "day" else {"by": by}))


def _rows(seat: Seat, first: date, last: date, by: str, parts: list[Part]) -> list[Row]:
    if by == "day":
        newest = sorted(parts, key=lambda part: (-part.day.toordinal(), part.model))
        return [_row((part.day.isoformat(), part.model), part.taken) for part in newest]
    if by == "key":
        return [_row((_key(taken["key"]),), sums) for taken, sums in _report(seat, first, last, "key")]
    models: dict[str, list[dict[str, int]]] = defaultdict(list)
    for part in parts:
        models[part.model].append(part.taken)
    return [_row((model,), metering.total(models[model])) for model in sorted(models)]


def _row(names: tuple[str, ...], taken: dict[str, int]) -> Row:
    figures = {name: f"{taken[name]:,}" for name in MEASURES} | {"cost": dollars(taken["cost"])}
    return Row(names, **figures)


def _key(key: dict[str, str] | None) -> str:
    return f"{key['name']} ({key['prefix']}…)" if key else "No key, or one that was deleted"


def _pieces(report: Iterator[tuple[dict[str, Any], dict[str, int]]]) -> Iterator[bytes]:
    """Written whole before the first is sent: a client that is slow keeps no query open."""
    with tempfile.SpooledTemporaryFile(SPOOL) as spool:
        text = io.TextIOWrapper(spool, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(COLUMNS)
        for taken, sums in report:
            key = taken["key"] or {"prefix": "", "name": ""}
            named = (taken["day"], *map(plain, (taken["model"], key["prefix"], key["name"])))
            writer.writerow((*named, *(sums[name] for name in MEASURES[:-1]), money.usd(sums["cost"])))
        text.seek(0)
        while piece := spool.read(PIECE):
            yield piece
        text.detach()
