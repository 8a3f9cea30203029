"""Usage by batch, model and day: moved in the transaction that stores results, added up for reports."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from typing import Any

from django.db import connection
from django.db.models import Sum

from batches.models import Batch, Usage
from batches.recording import Record
from billing import ledger
from billing.fields import Total
from tenants import clock
from tenants.errors import Refused

MEASURES = ("completed", "failed", "input_tokens", "cached_tokens", "output_tokens", "cost")
GROUPS = {"model": ("model",), "day": ("day",), "key": ("api_key_id", "api_key__prefix", "api_key__name")}
SHOWN_DAYS = 30  # of usage, where no first day is asked for
SUCH_A_DAY = "must be a day such as 2026-01-31."
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_COLUMNS = ("tenant_id", "api_key_id", "batch_id", "model", "day", *MEASURES)
_ADD = (
    f"INSERT INTO batches_usage ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))})"
    " ON CONFLICT (batch_id, model, day) DO UPDATE SET "
    + ", ".join(f"{name} = batches_usage.{name} + excluded.{name}" for name in MEASURES)
)


def measured(records: list[Record]) -> dict[str, int]:
    """What these lines took, by the names of MEASURES: tokens of charged lines, pico-USD."""
    delivered = sum(not record.error_code for record in records)
    charged = [record.usage for record in records if record.charged]
    return {
        "completed": delivered,
        "failed": len(records) - delivered,
        "input_tokens": sum(usage.input for usage in charged),
        "cached_tokens": sum(usage.cached for usage in charged),
        "output_tokens": sum(usage.output for usage in charged),
        "cost": sum(record.cost for record in records),
    }


def add(batch: Batch, model: str, now: datetime, taken: dict[str, int]) -> None:
    """Move the usage of the batch's model on this day. Under the batch's lock, so that no two add the row."""
    day = connection.ops.adapt_datefield_value(now.astimezone(UTC).date())
    values = [batch.tenant_id, batch.api_key_id, batch.pk, model, day, *(taken[name] for name in MEASURES)]
    with connection.cursor() as cursor:
        cursor.execute(_ADD, values)


def taken(batch: int) -> list[ledger.Taken]:
    """What the batch's delivered lines took, as its charge is made of it."""
    rows = Usage.objects.filter(batch_id=batch, completed__gt=0).order_by("day", "model")
    return [ledger.Taken(*row) for row in rows.values_list("model", "day", "completed", *MEASURES[2:])]


def report(tenant: int, first: date, last: date, *group_by: str) -> Iterator[tuple[dict[str, Any], dict[str, int]]]:
    """What each group is shown as, by the names of GROUPS, and its sums over the days from `first` to `last`, both
    included, in order. One query, read as it is taken."""
    columns = [column for name in group_by for column in GROUPS[name]]
    rows = Usage.objects.filter(tenant_id=tenant, day__gte=first, day__lte=last).values(*columns).order_by(*columns)
    groups = rows.annotate(**{f"sum_{name}": Sum(name) for name in MEASURES[:-1]}, sum_cost=Total("cost"))
    for group in groups.iterator():
        shown = {name: _shown(group, name) for name in group_by}
        yield shown, {name: int(group[f"sum_{name}"]) for name in MEASURES}


def _shown(group: dict[str, Any], name: str) -> Any:
    """A key by its prefix and name alone; null when it is gone."""
    if name != "key":
        return group[name]
    return {name: group[f"api_key__{name}"] for name in ("prefix", "name")} if group["api_key_id"] else None


def total(sums: Iterable[dict[str, int]]) -> dict[str, int]:
    """What they come to."""
    found = dict.fromkeys(MEASURES, 0)
    for each in sums:
        for name in MEASURES:
            found[name] += each[name]
    return found


def span(first: str | None, last: str | None) -> tuple[date, date]:
    """The first and the last day (UTC) asked for; without them today, and SHOWN_DAYS. Raises Refused 400."""
    end = _day(last, Refused(400, "invalid_to", f"to {SUCH_A_DAY}", param="to")) or today()
    begin = _day(first, Refused(400, "invalid_from", f"from {SUCH_A_DAY}", param="from"))
    begin = begin or date.fromordinal(max(1, end.toordinal() - SHOWN_DAYS + 1))
    if begin > end:
        raise Refused(400, "invalid_from", "from is a day after to.", param="from")
    return begin, end


def today() -> date:
    """By UTC."""
    return clock.now().astimezone(UTC).date()


def _day(text: str | None, refused: Refused) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text if _DAY.fullmatch(text) else "")
    except ValueError:
        raise refused from None
