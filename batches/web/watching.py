"""A tenant's batch as its page watches it: in two queries, with the files it names and how fast its lines come."""

from datetime import timedelta
from typing import Any

from django.db.models import (
    Count,
    DateTimeField,
    ExpressionWrapper,
    IntegerField,
    Min,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
)
from django.utils import timezone

from batches.api.serializers import NAMED
from batches.models import Batch, Result
from batches.web import finding
from tenants import scope
from tenants.models import Tenant

FILES = ("input_file", "output_file", "error_file", "results_file", "receipts_file")
RECENT = 4096  # latest results, of whomever, among which a batch's are counted
LATELY = timedelta(seconds=60)


def batch(tenant: Tenant, batch_id: str) -> Any:
    """The tenant's Batch, a foreign one answers as one that does not exist; with `lately`, its lines among the RECENT
    of the last minute, and `since`, the first of all of these."""
    return finding.batch(tenant, batch_id, _watched())


def _watched() -> QuerySet[Batch]:
    rows = Batch.objects.select_related(*FILES).annotate(**NAMED)
    ago = timezone.now() - LATELY
    with scope.every():  # how far back the latest results of all tenants go, and nothing else of them
        newest = Subquery(Result.objects.order_by("-pk").values("pk")[:1])
        floor = ExpressionWrapper(newest - Value(RECENT), output_field=IntegerField())
        latest = Result.objects.filter(pk__gt=floor, finished_at__gt=ago).aggregate(
            pk=Min("pk"), since=Min("finished_at")
        )
    recent = Result.objects.order_by().filter(pk__gte=latest["pk"] or 0, finished_at__gt=ago).annotate(all=Value(1))
    mine = recent.values("all").annotate(lines=Count("pk", filter=Q(batch_id=OuterRef("pk")))).values("lines")
    lately = Subquery(mine) if latest["pk"] else Value(None, output_field=IntegerField())
    return rows.annotate(lately=lately, since=Value(latest["since"], output_field=DateTimeField()))


def speed(batch: Any, now: Any) -> float:
    """Lines a second: of a running batch over the last minute, of an ended one over all of its run; 0 when unknown."""
    began = batch.in_progress_at
    if began is None:
        return 0.0
    if end := batch.finalizing_at or batch.ended_at:
        seconds = (end - began).total_seconds()
        return float((batch.completed + batch.failed) / seconds) if seconds > 0 else 0.0
    if not batch.lately or batch.since is None:
        return 0.0
    seconds = (now - max(began, batch.since)).total_seconds()
    return float(batch.lately / max(seconds, 1.0))
