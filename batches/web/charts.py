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
# grouped by latencies of two digits first: percentiles need an order, and this way few rows are put into one
_ADDED = """
WITH placed AS (
    SELECT {place} AS bucket,
        CASE WHEN upstream_id IS NULL THEN NULL
            WHEN latency_ms < 100 THEN latency_ms
            WHEN latency_ms < 1000 THEN latency_ms / 10 * 10
            WHEN latency_ms < 10000 THEN latency_ms / 100 * 100
            WHEN latency_ms < 100000 THEN latency_ms / 1000 * 1000
            ELSE latency_ms / 10000 * 10000 END AS latency,
        COUNT(*) AS many, COUNT(*) FILTER (WHERE error_code = '') AS good,
        SUM(input_tokens) AS input, SUM(cached_tokens) AS cached, SUM(output_tokens) AS output
    FROM batches_result WHERE batch_id = %s GROUP BY 1, 2
), ranked AS (
    SELECT *, SUM(many) OVER (PARTITION BY bucket, latency IS NULL ORDER BY latency) AS place,
        SUM(many) OVER (PARTITION BY bucket, latency IS NULL) AS sent
    FROM placed
)
SELECT bucket, SUM(good), SUM(many) - SUM(good), SUM(input), SUM(cached), SUM(output),
    MIN(latency) FILTER (WHERE place >= sent * 0.5), MIN(latency) FILTER (WHERE place >= sent * 0.95)
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
