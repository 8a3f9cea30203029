"""Whether a cluster takes its work.

django-q2 can look healthy for ever while nothing runs: a worker killed in the wrong moment leaves the queue's lock
held. What tells is the queue itself: a row (or a ring in Redis) that waits although somebody should be free to take it.
"""

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db.models import CharField, Count, Max, Min, Value
from django.utils import timezone
from django_q.models import Failure, OrmQ

from batches.console.runners import Line, Queue
from batches.engine import leases
from batches.models import Batch
from batches.tasks import CHORES, RUNNERS
from tenants import clock

FAILED = " failed"  # no cluster is called so
TAKEN_AT_ONCE = timedelta(seconds=5)  # an idle runner takes a row within a fraction of this


def oldest_runnable(cluster: str) -> tuple[int, timedelta] | None:
    """Key and age of the row of `cluster` that has waited longest; its lock is the time it became runnable."""
    if settings.REDIS_URL:
        return found[1:] if (found := _rings(cluster)) else None
    now = timezone.now()
    row = OrmQ.objects.filter(key=cluster, lock__lte=now).order_by("lock", "pk").first()
    return (row.pk, now - (row.lock or now)) if row else None


@dataclass
class ChoresMove:
    """Healthy: the row in front is another one than at the last call, or a batch is being validated or finalized."""

    last: int | None = None

    def __call__(self) -> bool:
        oldest = oldest_runnable("chores")
        before, self.last = self.last, oldest[0] if oldest else None
        return self.last is None or self.last != before or Batch.objects.filter(step_until__gt=clock.now()).exists()


@dataclass
class RunnersTakeWork:
    """Healthy: no row waits for a runner, or as many runners of this host are at work as there may be."""

    host: str

    def __call__(self) -> bool:
        oldest = oldest_runnable("runners")
        if oldest is None or oldest[1] < TAKEN_AT_ONCE:
            return True
        return leases.live_runners(self.host) >= settings.RUNNERS


def figures() -> Queue:
    """For the console's home: what waits in each cluster, what failed in the last day. One query; nothing pickled."""
    now = timezone.now()
    if settings.REDIS_URL:
        return Queue(_lines_of_rings(), Failure.objects.filter(stopped__gte=now - timedelta(days=1)).count())
    waiting = OrmQ.objects.filter(lock__lte=now).order_by().values_list("key").annotate(Count("pk"), Min("lock"))
    failed = Failure.objects.filter(stopped__gte=now - timedelta(days=1)).order_by()
    failures = failed.annotate(key=Value(FAILED, CharField())).values_list("key").annotate(Count("pk"), Max("stopped"))
    found = {key: (rows, first) for key, rows, first in waiting.union(failures, all=True)}
    rows, _ = found.pop(FAILED, (0, None))
    return Queue([Line(key, count, now - first) for key, (count, first) in sorted(found.items()) if count], rows)


def _lines_of_rings() -> list[Line]:
    """None while Redis is away: the log says so, and a page must not fail for it."""
    from redis import RedisError  # noqa: PLC0415

    try:
        rings = [(name, found) for name in (CHORES, RUNNERS) if (found := _rings(name))]
    except RedisError:
        return []
    return [Line(name, count, age) for name, (count, _, age) in rings]


def _rings(cluster: str) -> tuple[int, int, timedelta] | None:
    """As bells.waiting: only who has Redis loads its client."""
    from provocative import bells  # noqa: PLC0415

    return bells.waiting(cluster)
