"""How the whole service does, from its database: on every host the same.

The questions are those of the console's home, so that both tell the same. Nothing here names a tenant.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import groupby

from django.db import connection, transaction
from django.db.models import Count, Min, Sum
from django.utils import timezone

from batches import expecting, files
from batches.console import doing, load, runners, takings, troubles
from batches.console.doing import Doing
from batches.core.states import ACTIVE
from batches.models import Batch, Permit
from batches.webhooks import leasing
from billing.stripe import sending
from provocative import queue_health
from provocative.exposition.gauges import Figure, Gauge
from tenants import clock, holding

HOUR = timedelta(hours=1)
STATEMENT_SECONDS = 5  # that a query may take (PostgreSQL)
MOST_UNSEALED = 1_000  # that are counted
UPSTREAM = ("upstream", "model")

BATCHES = Gauge("batches", "Batches that have not ended, by their state.", ("status",))
OLDEST = Gauge("oldest_batch_age_seconds", "Of the batch that has been in the state longest.", ("status",))
AT_RISK = Gauge("batches_at_risk", "Batches that will hardly be there at their deadline.")
MISSED = Gauge("batches_missed_last_hour", "Batches that ended in the last hour, and broke the promise.")
STUCK = Gauge("batches_stuck", "Batches whose steps fail again and again, or of which nothing was finished for long.")
STOPPED = Gauge("batches_stopped", "Batches that an operator paused.")
SUSPENDED = Gauge("batches_suspended", "Batches of suspended tenants.")
HELD = Gauge("held", "1: the service holds, and sends, charges and takes nothing until an operator has decided.")
UNSEALED = Gauge("batches_unsealed", "Batches that have ended, and have no receipts yet; 1,000 at most.")
LINES = Gauge("open_lines", "Lines of slices that are not done: waiting, in_hand, held.", ("model", "state"))
STRANDED = Gauge("lines_stranded", "Lines that wait for a model without an upstream that is on.", ("model",))
QUEUE = Gauge("queue_tasks", "Tasks that no worker has taken.", ("cluster",))
QUEUE_AGE = Gauge("queue_oldest_age_seconds", "How long the first of them has waited.", ("cluster",))
FAILED_TASKS = Gauge("failed_tasks_last_day", "Tasks that failed in the last 24 hours.")
RUNNERS = Gauge("runners", "Runners by host: live, draining, lost.", ("host", "state"))
UPSTREAM_STATE = Gauge("upstream_state", "1 for the state that it is in.", (*UPSTREAM, "state"))
IN_FLIGHT = Gauge("upstream_in_flight_requests", "Requests at it.", UPSTREAM)
SLOTS = Gauge("upstream_granted_slots", "Requests in flight that runners may have together.", UPSTREAM)
MOST = Gauge("upstream_max_in_flight_requests", "What the operator allows.", UPSTREAM)
LIMIT = Gauge("upstream_learned_limit_requests", "What it takes at once, as runners have learned.", UPSTREAM)
DUE = Gauge("webhooks_due", "Events that are due to be sent.")
DUE_AGE = Gauge("webhooks_oldest_due_age_seconds", "How long the first of them has been due.")
RETRIED = Gauge("webhooks_retried", "Events that failed three times, and are tried again.")
UNDELIVERED = Gauge("webhooks_given_up_last_day", "Events that were given up in the last 24 hours.")
GONE = Gauge("webhook_endpoints_gone", "Endpoints that were switched off since they answered 410.")
OPEN = Gauge("invoices_open", "Invoices that are not paid.")
OVERDUE = Gauge("invoices_past_due", "Open invoices of tenants who are refused new batches for them.")
UNSENT = Gauge("invoices_unsent", "Invoices that Stripe would not take so far.")
STRIPE_DUE = Gauge("stripe_invoices_due", "Invoices that are due to be sent to Stripe.")
CLOCK = Gauge("clock_offset_seconds", "This host's clock, less the database's (PostgreSQL).")

GAUGES = (
    BATCHES, OLDEST, AT_RISK, MISSED, STUCK, STOPPED, SUSPENDED, HELD, UNSEALED, LINES, STRANDED, QUEUE, QUEUE_AGE,
    FAILED_TASKS, RUNNERS, UPSTREAM_STATE, IN_FLIGHT, SLOTS, MOST, LIMIT, DUE, DUE_AGE, RETRIED, UNDELIVERED, GONE,
    OPEN, OVERDUE, UNSENT, STRIPE_DUE, CLOCK,
)  # fmt: skip
STATES = ("on", "failing", "resting", "draining", "cut off", "off")
SINCE = {"validating": "created_at", "cancelling": "cancelling_at", "expiring": "expiring_at"}
SINCE |= {"in_progress": "in_progress_at", "finalizing": "finalizing_at"}


def read() -> list[Figure]:
    """A dozen queries. Raises django.db.Error; on PostgreSQL also when one takes too long."""
    with _patient():
        here = timezone.now()
        now = clock.now()
        found: list[Figure] = [(HELD, (), holding.held() is not None)]
        if connection.vendor == "postgresql":
            found.append((CLOCK, (), (here - now).total_seconds()))
        upstreams = doing.upstreams(now)
        for part in (_batches(now), _lines(upstreams), _queue(), _runners(now), _upstreams(now, upstreams)):
            found += part
        return [*found, *_troubles(now), *_webhooks(now), *_invoices()]


@contextmanager
def _patient() -> Iterator[None]:
    """No query may hold what others wait for. For the transaction alone: a pooler may stand between."""
    if connection.vendor != "postgresql":
        yield
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
        yield


def _batches(now: datetime) -> Iterator[Figure]:
    active = Batch.objects.filter(status__in=ACTIVE)
    rows = active.order_by().values_list("status").annotate(Count("pk"), *(Min(stamp) for stamp in SINCE.values()))
    known = {status: (count, dict(zip(SINCE, firsts, strict=True))) for status, count, *firsts in rows}
    for status in ACTIVE:
        count, firsts = known.get(status, (0, {}))
        since = firsts.get(status)
        yield BATCHES, (status,), count
        yield OLDEST, (status,), (now - since).total_seconds() if since else 0
    yield AT_RISK, (), active.filter(expecting.at_risk(now)).count()
    yield MISSED, (), Batch.objects.filter(sla_met=False, ended_at__gte=now - HOUR).count()
    yield UNSEALED, (), Batch.objects.filter(files.UNSEALED)[:MOST_UNSEALED].count()


def _lines(upstreams: list[Doing]) -> Iterator[Figure]:
    lanes = sorted(load.lanes(upstreams), key=lambda lane: lane.model)
    for model, several in groupby(lanes, key=lambda lane: lane.model):
        some = list(several)
        for state in ("waiting", "in_hand", "held"):
            yield LINES, (model, state), sum(getattr(lane, state) for lane in some)
        yield STRANDED, (model,), sum(lane.waiting for lane in some if lane.stranded)


def _queue() -> Iterator[Figure]:
    queue = queue_health.figures()
    for cluster in ("chores", "runners"):
        line = queue.line(cluster)
        yield QUEUE, (cluster,), line.rows
        yield QUEUE_AGE, (cluster,), line.oldest.total_seconds()
    yield FAILED_TASKS, (), queue.failed


def _runners(now: datetime) -> Iterator[Figure]:
    for host in runners.hosts(now):
        for state in ("live", "draining", "lost"):
            yield RUNNERS, (host.name, state), getattr(host, state)


def _upstreams(now: datetime, upstreams: list[Doing]) -> Iterator[Figure]:
    live = Permit.objects.filter(runner__lease_until__gt=now).order_by()
    slots = dict(live.values_list("upstream").annotate(Sum("slots")))
    for one in upstreams:
        labels = (str(one.pk), one.model)
        for state in STATES:
            yield UPSTREAM_STATE, (*labels, state.replace(" ", "_")), one.state == state
        yield IN_FLIGHT, labels, one.now.in_flight
        yield SLOTS, labels, slots.get(one.pk, 0)
        yield MOST, labels, one.now.max_in_flight if one.enabled else 0
        yield LIMIT, labels, one.now.limit


def _troubles(now: datetime) -> Iterator[Figure]:
    found = troubles.troubles(now)
    yield STUCK, (), found.stuck
    yield STOPPED, (), found.stopped
    yield SUSPENDED, (), found.suspended
    yield RETRIED, (), found.retried
    yield UNDELIVERED, (), found.undelivered
    yield GONE, (), found.gone


def _webhooks(now: datetime) -> Iterator[Figure]:
    count, first = leasing.due(now).aggregate(count=Count("pk"), first=Min("next_at")).values()
    yield DUE, (), count
    yield DUE_AGE, (), (now - first).total_seconds() if first else 0


def _invoices() -> Iterator[Figure]:
    dues = takings.dues()
    yield OPEN, (), dues.open
    yield OVERDUE, (), dues.past_due
    yield UNSENT, (), dues.unsent
    yield STRIPE_DUE, (), sending.due().count() if sending.is_due() else 0
