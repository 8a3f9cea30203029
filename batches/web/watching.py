"""A tenant's batch as its page watches it: in one query, with the files it names and how fast its lines come."""

from datetime import timedelta
from typing import Any

from django.db.models import Count, ExpressionWrapper, Func, IntegerField, Min, OuterRef, Q, QuerySet, Subquery, Value
from django.utils import timezone

from batches.api.serializers import NAMED
from batches.models import Batch, Result
from batches.web import finding
from tenants.models import Tenant

FILES = ("input_file", "output_file", "error_file", "results_file", "receipts_file")
RECENT = 4096  # latest results, of whomever, among which a batch's are counted
LATELY = timedelta(seconds=60)


class Newest(Func):
    """The number that the latest result of all got, by the counter that gave it: nobody's row is read for it."""

    output_field = IntegerField()
    template = "(SELECT last_value FROM batches_result_id_seq)"

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "(SELECT seq FROM sqlite_sequence WHERE name = 'batches_result')"
        return self.as_sql(compiler, connection, template=template, **context)


def batch(tenant: Tenant, batch_id: str) -> Any:
    """The tenant's Batch, a foreign one answers as one that does not exist; with `lately`, its lines among the RECENT
    of the last minute, and `since`, the first of the tenant's among these."""
    return finding.batch(tenant, batch_id, _watched())


def _watched() -> QuerySet[Batch]:
    rows = Batch.objects.select_related(*FILES).annotate(**NAMED)
    floor = ExpressionWrapper(Newest() - Value(RECENT), output_field=IntegerField())
    recent = Result.objects.order_by().filter(pk__gt=floor, finished_at__gt=timezone.now() - LATELY)
    lately = recent.annotate(all=Value(1)).values("all")
    mine = lately.annotate(lines=Count("pk", filter=Q(batch_id=OuterRef("pk")))).values("lines")
    first = lately.annotate(first=Min("finished_at")).values("first")
    return rows.annotate(lately=Subquery(mine), since=Subquery(first))


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
