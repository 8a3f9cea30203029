"""What is counted for alerts alone: batches that do not move, webhooks that do not arrive."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import (
    Case,
    CharField,
    Count,
    ExpressionWrapper,
    IntegerField,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)

from batches import expecting
from batches.core import caps
from batches.core.states import ACTIVE, Status
from batches.models import Batch, WebhookDelivery, WebhookEndpoint

ATTEMPTS = 3  # of a step or of a delivery: no accident any more
QUIET = timedelta(minutes=15)  # longer than what is in flight may take to end
STAMPS = ("in_progress_at", "last_result_at", "cancelling_at", "expiring_at", "finalizing_at")
DAY = timedelta(days=1)
FINE = "fine"
RECENT = 4096  # latest deliveries, among which those that were given up are counted


class Troubles(NamedTuple):
    """How many of each there are. The first three are batches, each in one of them."""

    stuck: int = 0
    suspended: int = 0  # of suspended tenants
    stopped: int = 0  # paused by an operator
    steps: int = 0  # being validated or finalized at this moment
    gone: int = 0  # endpoints that were disabled since they answered 410
    retried: int = 0  # deliveries that failed ATTEMPTS times, and are tried again
    undelivered: int = 0  # of the latest RECENT, given up in the last day


def stuck(now: datetime) -> Q:
    """Batches whose steps fail again and again; and active ones, held back by nobody and behind nobody, of which for
    QUIET no line has finished, nor has their state changed."""
    since = now - QUIET
    failing = Q(status__in=(Status.VALIDATING, Status.FINALIZING), step_attempts__gte=ATTEMPTS)
    still = Q(status__in=ACTIVE, paused_reason="", tenant__suspended=False, created_at__lt=since)
    for stamp in STAMPS:
        still &= Q(**{stamp: None}) | Q(**{f"{stamp}__lt": since})
    return failing | still & ~Q(waiting_reason__startswith=expecting.BEHIND)


def troubles(now: datetime) -> Troubles:
    """One query."""
    active = Batch.objects.filter(status__in=ACTIVE)
    kind = Case(
        When(stuck(now), then=Value("stuck")),
        When(tenant__suspended=True, then=Value("suspended")),
        When(paused_reason=caps.OPERATOR, then=Value("stopped")),
        default=Value(FINE),
        output_field=CharField(),
    )
    newest = Subquery(WebhookDelivery.objects.order_by("-pk").values("pk")[:1])
    floor = ExpressionWrapper(newest - Value(RECENT), output_field=IntegerField())
    latest = WebhookDelivery.objects.filter(pk__gt=floor)  # nothing leads to those that failed: no scan of them all
    failed = latest.filter(state=WebhookDelivery.State.FAILED, last_at__gte=now - DAY)
    pending = WebhookDelivery.objects.filter(state=WebhookDelivery.State.PENDING, attempts__gte=ATTEMPTS)
    gone = WebhookEndpoint.objects.filter(disabled_reason=WebhookEndpoint.Disabled.GONE)
    rows = _counted(active, kind).union(
        _counted(active.filter(step_until__gt=now), Value("steps", CharField())),
        _counted(gone, Value("gone", CharField())),
        _counted(pending, Value("retried", CharField())),
        _counted(failed, Value("undelivered", CharField())),
        all=True,
    )
    return Troubles(**{name: count for name, count in rows if name != FINE})


def _counted(rows: QuerySet[Any], kind: Any) -> Any:
    return rows.order_by().annotate(kind_=kind).values_list("kind_").annotate(Count("pk"))
