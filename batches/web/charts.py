"""How a batch has run, for charts: its lines over time, added up by the database in one query."""

from datetime import datetime
from typing import Any

from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from batches.core.states import ACTIVE
from batches.models import Batch
from batches.web import watching
from tenants.web.access import Seat, seat

BUCKETS = 60
LEAST = 0.05  # seconds of a bucket
# which bucket a line falls in: parameters are the beginning, the seconds of a bucket, and the last bucket
_PLACE = {
    "sqlite": "MAX(0, MIN(CAST((julianday(finished_at) - julianday(%s)) * 86400.0 / %s AS INTEGER), %s))",
    "postgresql": "GREATEST(0, LEAST(FLOOR(EXTRACT(EPOCH FROM finished_at - %s) / %s)::int, %s))",
}
COLUMNS = ("bucket", "completed", "failed", "input", "cached", "output", "median", "slow")  # the latter two in ms
_ADDED = """
WITH placed AS (
    SELECT {place} AS bucket, upstream_id IS NULL AS unsent, error_code, latency_ms, input_tokens, cached_tokens,
        output_tokens
    FROM batches_result WHERE batch_id = %s
), ranked AS (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY bucket, unsent ORDER BY latency_ms) AS place,
        COUNT(*) OVER (PARTITION BY bucket, unsent) AS many
    FROM placed
)
SELECT bucket, COUNT(*) FILTER (WHERE error_code = ''), COUNT(*) FILTER (WHERE error_code <> ''),
    SUM(input_tokens), SUM(cached_tokens), SUM(output_tokens),
    MIN(latency_ms) FILTER (WHERE NOT unsent AND place >= many * 0.5),
    MIN(latency_ms) FILTER (WHERE NOT unsent AND place >= many * 0.95)
FROM ranked GROUP BY bucket ORDER BY bucket"""


@require_safe
@seat()
def batch_charts(request: HttpRequest, seat: Seat, batch_id: str) -> JsonResponse:
    """At most BUCKETS stretches of time, each with its lines, tokens and latencies."""
    found = watching.batch(seat.tenant, batch_id)
    now = timezone.now()
    began, ended = found.in_progress_at, found.finalizing_at or found.ended_at or now
    rows: list[list[Any]] = []
    width = LEAST
    if began is not None:
        width = max((ended - began).total_seconds() / BUCKETS, LEAST)
        rows = added(found, began, width)
    return JsonResponse(
        {
            "start": began and began.timestamp(),
            "width": width,
            "until": ended.timestamp(),
            "columns": COLUMNS,
            "rows": rows,
            "moving": found.status in ACTIVE,
        }
    )


def added(batch: Batch, began: datetime, width: float) -> list[list[Any]]:
    """A row of COLUMNS for each stretch of `width` seconds in which lines ended."""
    start = connection.ops.adapt_datetimefield_value(began)
    with connection.cursor() as cursor:
        cursor.execute(_ADDED.format(place=_PLACE[connection.vendor]), [start, width, BUCKETS - 1, batch.pk])
        return [[None if value is None else int(value) for value in row] for row in cursor.fetchall()]
