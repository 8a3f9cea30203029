"""Usage by batch, model and day: moved in the transaction that stores results, added up for reports."""

from datetime import UTC, date, datetime
from typing import Any

from django.db import connection
from django.db.models import Sum

from batches.models import Batch, Usage
from batches.recording import Record
from billing import ledger
from billing.fields import Total

MEASURES = ("completed", "failed", "input_tokens", "cached_tokens", "output_tokens", "cost")
GROUPS = {"model": ("model",), "day": ("day",), "key": ("api_key_id", "api_key__prefix", "api_key__name")}
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


def report(tenant: int, first: date, last: date, group_by: str) -> list[tuple[Any, dict[str, int]]]:
    """What each group is shown as, and its sums over the days from `first` to `last`, both included, in order."""
    columns = GROUPS[group_by]
    rows = Usage.objects.filter(tenant_id=tenant, day__gte=first, day__lte=last).values(*columns).order_by(*columns)
    groups = rows.annotate(**{f"sum_{name}": Sum(name) for name in MEASURES[:-1]}, sum_cost=Total("cost"))
    return [(_shown(group, group_by), {name: int(group[f"sum_{name}"]) for name in MEASURES}) for group in groups]


def _shown(group: dict[str, Any], group_by: str) -> Any:
    """A key by its prefix and name alone; null when it is gone."""
    if group_by != "key":
        return group[group_by]
    return {name: group[f"api_key__{name}"] for name in ("prefix", "name")} if group["api_key_id"] else None
