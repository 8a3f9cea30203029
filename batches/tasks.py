"""Every django-q2 entry point, and the bells that enqueue them.

A task is a hint: idempotent, harmless to lose, repeat or delay, since the database says what there is to do. This
module imports nothing of the product at its top, because an import error in a task's module makes django-q2 retry for
ever (so the imports inside functions here); tasks return None, because a result that can't be pickled does the same.
"""

from datetime import datetime

from django.conf import settings
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.models import Failure, OrmQ, Schedule
from django_q.tasks import async_task

CHORES, RUNNERS = "chores", "runners"


def validate(batch: int) -> None:
    """Read the input, plan the batch; say when it should end."""
    from batches import expecting, validation

    validation.validate(batch)
    expecting.refresh()


def work() -> None:
    """A worker is free: run what is fairest, until there is nothing or the loop hands over."""
    from batches.engine.runner import run

    run()


def finalize(batch: int) -> None:
    """Write the files, post the charge, end the batch."""
    from batches import results

    results.finalize(batch)


def seal(batch: int) -> None:
    """Write the receipts of an ended batch, sign its manifest."""
    from batches import sealing

    sealing.seal(batch)


def deliver() -> None:
    """Send the webhooks that are due."""
    from batches.webhooks import delivering

    delivering.deliver()


def sweep() -> None:
    """Ring again for all that is stale, close what has drained, expire what is late."""
    from batches import sweeping

    sweeping.sweep()


def remove_orphans() -> None:
    """Delete what crashes left in the storage, and what deleted rows left in the database's log."""
    from batches import orphans, scrubbing

    orphans.remove()
    scrubbing.scrub()


def tick() -> None:
    """The sweep as `up` calls it every few seconds, outside the queue."""
    sweep()


def ring_validate(batch: int) -> None:
    _ring(CHORES, "validate", batch)


def ring_finalize(batch: int) -> None:
    _ring(CHORES, "finalize", batch)


def ring_seal(batch: int) -> None:
    _ring(CHORES, "seal", batch)


def ring_deliver() -> None:
    _ring(CHORES, "deliver")


def ring_step(batch: int, status: str) -> None:
    """Ring for the step that a batch in `status` waits for, if it waits for one."""
    rings = {"validating": ring_validate, "finalizing": ring_finalize}
    if status in rings:
        rings[status](batch)


def chores_waiting() -> bool:
    """Whether a chore waits that no worker has taken."""
    return _waits(CHORES)


def ring_work() -> None:
    """Call the runners, unless a call waits already: one that a worker took, or died with, does not count."""
    if _waits(RUNNERS):
        return
    for _ in range(settings.RUNNERS):
        _ring(RUNNERS, "work")


def _waits(cluster: str) -> bool:
    if settings.REDIS_URL:
        return bool(get_broker(cluster).queue_size())
    return bool(OrmQ.objects.filter(key=cluster, lock__lte=timezone.now()).exists())


def _ring(cluster: str, name: str, *args: int) -> None:
    """In the caller's transaction: the row and the change it announces land together."""
    async_task(f"batches.tasks.{name}", *args, q_options={"cluster": cluster})


def install_schedules() -> None:
    """The sweep every minute, whoever ticks it besides: made by code, since one bad row stops all schedules."""
    for task, often in (
        ("batches.tasks.sweep", {"schedule_type": Schedule.MINUTES, "minutes": 1}),
        ("batches.tasks.remove_orphans", {"schedule_type": Schedule.DAILY}),
        ("billing.tasks.close_months", {"schedule_type": Schedule.DAILY}),
        ("billing.tasks.refresh_invoices", {"schedule_type": Schedule.HOURLY}),
    ):
        Schedule.objects.update_or_create(name=task.rpartition(".")[2], defaults={"func": task, **often})


def prune(before: datetime) -> None:
    """Failed tasks are kept by django-q2 for ever: drop those that stopped long ago."""
    Failure.objects.filter(stopped__lt=before).delete()
