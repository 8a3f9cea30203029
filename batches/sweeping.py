"""The sweep: whatever the queue lost, a crash left or a clock brought is taken up again. Any number may run at once."""

from datetime import timedelta

from django.db.models import Exists, OuterRef, Q

from batches import alerting, expecting, files, idempotency, late, lifecycle, marks, results, tasks
from batches.core import caps, states
from batches.core.states import Status
from batches.engine import leases
from batches.models import Batch, Slice
from batches.webhooks import delivering, endpoints
from batches.webhooks import leasing as deliveries
from billing import tasks as billing_tasks
from billing.stripe import sending
from tenants import clock, sessions

STALE = timedelta(seconds=5)  # a step nobody took up in this time is rung for again
FAILURES_KEPT = timedelta(days=7)


def sweep() -> None:
    """Expire, close, ring, bury, tidy, estimate; while the service holds, bury alone."""
    leases.bury_expired()
    if not marks.tick():
        return
    _note_held_back()
    _expire_late()
    _close_drained()
    _ring_stale_steps()
    _ring_unsealed()
    _ring_due_deliveries()
    lifecycle.go_on()
    alerting.look_around()
    _ring_due_invoices()
    if _claimable_slices():
        tasks.ring_work()
    _tidy()
    expecting.refresh()


def _note_held_back() -> None:
    """Batches that do not run for reasons of their tenant's: whatever ends the pause, it is remembered."""
    held = Q(tenant__suspended=True) | ~Q(paused_reason__in=("", caps.OPERATOR))
    for pk in Batch.objects.filter(held, status__in=states.ACTIVE, held_back=False).values_list("pk", flat=True):
        Batch.objects.filter(pk=pk).update(held_back=True)


def _expire_late() -> None:
    late = Batch.objects.filter(status__in=states.before(Status.EXPIRING), deadline__lte=clock.now())
    for pk in late.values_list("pk", flat=True):
        lifecycle.expire(pk)


def _close_drained() -> None:
    for pk in Batch.objects.filter(status__in=states.CLOSING).values_list("pk", flat=True):
        lifecycle.close_if_drained(pk)


def _ring_stale_steps() -> None:
    """Validations and finalizations that no worker holds, a while after they were due."""
    if tasks.chores_waiting():  # a row for each may be among them: more would only pile up
        return
    now = clock.now()
    free = Q(step_until=None) | Q(step_until__lt=now)
    due = Q(status=Status.VALIDATING, created_at__lt=now - STALE) | Q(
        status=Status.FINALIZING, finalizing_at__lt=now - STALE
    )
    for pk, status in Batch.objects.filter(free & due).values_list("pk", "status"):
        tasks.ring_step(pk, status)


def _ring_unsealed() -> None:
    """Ended batches without receipts: their task was lost or failed, or they ended before there were any."""
    if tasks.chores_waiting():
        return
    now = clock.now()
    free = Q(step_until=None) | Q(step_until__lt=now)
    for pk in Batch.objects.filter(files.UNSEALED, free, ended_at__lt=now - STALE).values_list("pk", flat=True)[:20]:
        tasks.ring_seal(pk)


def _ring_due_deliveries() -> None:
    """Webhooks whose next attempt has come, or whose task was lost."""
    if not tasks.chores_waiting() and delivering.is_due():
        tasks.ring_deliver()


def _ring_due_invoices() -> None:
    """Invoices that Stripe has not got yet."""
    if not tasks.chores_waiting() and sending.is_due():
        billing_tasks.ring_send_invoices()


def _claimable_slices() -> bool:
    return Slice.objects.filter(leases.claimable(clock.now()), lifecycle.runnable("batch__")).exists()


def _tidy() -> None:
    """What ended batches leave behind when their last step died, what POSTs came to and failed tasks of long ago."""
    leftovers = Slice.objects.filter(batch=OuterRef("pk"))
    for pk in Batch.objects.filter(Exists(leftovers), status__in=states.TERMINAL).values_list("pk", flat=True)[:20]:
        results.drop_scaffolding(pk)
    late.remove()
    idempotency.prune()
    tasks.prune(clock.now() - FAILURES_KEPT)
    deliveries.prune()
    endpoints.forget_secrets()
    sessions.prune()
