"""Every change of a batch's status, in one place: compare-and-set, and the lease of the steps that make it.

core/states.py draws the states. A step (validate, finalize) is leased like a slice: a token, an end, and attempts
counted at the claim, so that they survive any death.
"""

import json
import secrets
import time
from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from typing import Any

from django.db import DatabaseError, close_old_connections, transaction
from django.db.models import F, Q

from batches import identity, life, marks, measures, reserving, tasks
from batches.core import caps, states
from batches.core.states import Status
from batches.models import Batch, Slice
from batches.webhooks import emitting
from tenants import clock, holding
from tenants.errors import Refused

STEP_LEASE = timedelta(seconds=30)
STEP_PAUSE = timedelta(seconds=10)  # before a step that lacked something is tried again
STEP_RENEWAL = 5.0  # seconds
MAX_VALIDATIONS = 3
DATABASE_PATIENCE, DATABASE_PAUSE = 20.0, 0.5  # seconds, for one that went amid a step
DRAIN_LIMIT = timedelta(seconds=630)  # one attempt's deadline and a little

BELOW_CAP = Q(max_cost=None) | Q(max_cost__gt=F("cost"))
_STAMPS = {
    Status.IN_PROGRESS: "in_progress_at",
    Status.CANCELLING: "cancelling_at",
    Status.EXPIRING: "expiring_at",
    Status.FINALIZING: "finalizing_at",
}


def runnable(batch: str = "") -> Q:
    """Batches whose lines may be sent: neither closing nor paused, their tenant not suspended, the service not held.

    Of slices, with `batch__`.
    """
    rows = Q(**{f"{batch}status": Status.IN_PROGRESS, f"{batch}paused_reason": ""}, tenant__suspended=False)
    return rows & holding.working()


def transition(batch: int, target: Status, where: Q | None = None, **fields: Any) -> bool:
    """Move a batch to `target` if it is where it may come from (and `where` holds); False when it is not.

    An end is announced in the same transaction. The moment is now, unless `fields` has it.
    """
    stamp = _STAMPS.get(target, "ended_at")
    rows = Batch.objects.filter(where or Q(), pk=batch, status__in=states.before(target))
    fields.setdefault(stamp, clock.now())
    fields |= {"paused_reason": "", "step_token": "", "step_until": None, "step_attempts": 0}
    fields |= {"expected_at": None, "waiting_reason": ""}
    with transaction.atomic():
        moved = rows.update(status=target, **fields) == 1
        if moved:
            life.moved(batch, target)
            if target in states.TERMINAL:
                measures.ended(target)
                emitting.announce(batch, target, fields[stamp])
    return moved


def fail(batch: int, faults: Iterable[dict[str, Any]], counts: dict[str, int], where: Q | None = None) -> bool:
    """The input as a whole is not valid: keep why."""
    return transition(batch, Status.FAILED, where, errors=listed(faults, counts))


def listed(faults: Iterable[dict[str, Any]], counts: dict[str, int]) -> str:
    """Bad lines, as a batch keeps them in `errors`."""
    return json.dumps({"data": list(faults), "counts": counts})


def pause(batch: int, reason: str) -> bool:
    """Send nothing more until it is resumed; what is in flight is kept. It stays in_progress, its deadline runs on, and
    the 24 hours are promised no more, unless it was the operator who paused it."""
    running = Batch.objects.filter(pk=batch, status=Status.IN_PROGRESS, paused_reason="")
    waiting = {"waiting_reason": caps.waiting_reason(reason), "expected_at": None}  # kept up by expecting.refresh
    held = {} if reason == caps.OPERATOR else {"held_back": True}
    paused = running.update(paused_reason=reason, **held, **waiting) == 1
    if paused:
        life.befell(batch, "paused", reason=reason)
    return paused


def pause_by_operator(batch: Batch) -> bool:
    """Pause it so that its tenant can't resume it; False when it does not run, or is paused already."""
    return pause(batch.pk, caps.OPERATOR)


def resume_by_operator(batch: Batch) -> bool:
    """End an operator's pause; False when there is none. A cap or a reservation that was reached meanwhile, by what was
    in flight, pauses it now: no later commit would see that it was passed."""
    paused = Batch.objects.filter(pk=batch.pk, status=Status.IN_PROGRESS, paused_reason=caps.OPERATOR)
    with transaction.atomic():
        if not paused.update(paused_reason="", waiting_reason=""):
            return False
        row = Batch.objects.get(pk=batch.pk)
        if reason := cap_reached(row, row.cost):
            pause(row.pk, reason)
        else:
            life.befell(row.pk, "resumed")
        tasks.ring_work()
    return True


def cap_reached(batch: Batch, grown: int) -> str:
    """Why a batch whose cost has just grown by so many pico-USD is to be paused, or ""."""
    limits = caps.Caps(batch.max_cost, batch.max_error_rate)
    completed, failed = batch.completed - batch.base_completed, batch.failed - batch.base_failed
    return caps.pause_reason(limits, batch.cost, completed, failed) or reserving.pause_reason(batch, grown)


def resume(batch: Batch, **new_caps: Any) -> None:
    """Go on with a paused batch, with these caps in place of its own. Its error rate is measured anew.

    Raises Refused 409 when it is not paused, or by the operator, or its cost is not below its cap; 402 when it has used
    up what was reserved for it, and its tenant may spend no more.
    """
    halted = Batch.objects.filter(pk=batch.pk, status=Status.IN_PROGRESS).exclude(paused_reason="")
    paused = halted.exclude(paused_reason=caps.OPERATOR)
    room = BELOW_CAP
    if "max_cost" in new_caps:
        room = Q() if new_caps["max_cost"] is None else Q(cost__lt=new_caps["max_cost"])
    measured = {"base_completed": F("completed"), "base_failed": F("failed")}
    with transaction.atomic():
        reserved = reserving.again(batch, new_caps)
        if paused.filter(room).update(paused_reason="", waiting_reason="", **measured, **new_caps, **reserved):
            life.befell(batch.pk, "resumed")
            tasks.ring_work()
            return
    if paused.exists():
        cure = "Send a max_cost_usd above the batch's cost, or null for none."
        raise Refused(
            409, "cost_limit_reached", f"The batch costs as much as its cap already. {cure}", param="max_cost_usd"
        )
    if halted.exists():
        raise Refused(409, "paused_by_operator", "The operator of the service paused the batch. Ask them to resume it.")
    raise Refused(409, "batch_not_paused", "The batch is not paused.")


def go_on() -> None:
    """Resume the batches that waited for their tenants to be able to spend more, where these are.

    A tenant that can spend nothing is asked about once, not locked for each of its batches at every sweep.
    """
    waiting = Batch.objects.filter(status=Status.IN_PROGRESS, paused_reason__in=caps.LIMITS)
    lacking = cache(reserving.lacking)
    for batch in waiting.order_by("pk").only("tenant", "paused_reason"):
        if code := lacking(batch.tenant_id):
            _still(batch, code)
            continue
        try:
            with transaction.atomic():
                reserved = reserving.again(batch, {})
                if waiting.filter(BELOW_CAP, pk=batch.pk).update(paused_reason="", waiting_reason="", **reserved):
                    life.befell(batch.pk, "resumed")
                    tasks.ring_work()
        except Refused as refused:
            _still(batch, refused.code)


def _still(batch: Batch, code: str) -> None:
    """What a paused batch lacks now may be another thing: credits have come, and its tenant's limit is in the way."""
    reason = caps.REFUSED[code]
    if reason != batch.paused_reason:
        same = Batch.objects.filter(pk=batch.pk, status=Status.IN_PROGRESS, paused_reason=batch.paused_reason)
        same.update(paused_reason=reason, waiting_reason=caps.waiting_reason(reason))


def raise_priority(batch: Batch) -> bool:
    """Run it before all but batches whose deadline is in danger; False when it was raised before, or nothing of it will
    be sent any more."""
    return _raise(batch.pk, True)


def lower_priority(batch: Batch) -> bool:
    """Run it in its turn again; False when it was not raised, or nothing of it will be sent any more."""
    return _raise(batch.pk, False)


def _raise(batch: int, raised: bool) -> bool:
    sent = Batch.objects.filter(pk=batch, status__in=states.before(Status.EXPIRING), raised=not raised)
    return sent.update(raised=raised) == 1


def cancel(batch: Batch) -> bool:
    """Stop sending; whether it was this call that did. Raises Refused 409 when it has ended otherwise, or is ending."""
    if transition(batch.pk, Status.CANCELLING):
        close_if_drained(batch.pk)
        return True
    status, cancelled_at = Batch.objects.values_list("status", "cancelling_at").get(pk=batch.pk)
    if cancelled_at is None:
        shown = states.shown(Status(status), cancelled=False)
        raise Refused(409, "batch_not_cancellable", f"The batch can't be cancelled any more: it is {shown}.")
    return False


def expire(batch: int) -> bool:
    """The deadline has passed: stop sending."""
    if not transition(batch, Status.EXPIRING, Q(deadline__lte=clock.now())):
        return False
    close_if_drained(batch)
    return True


def close_if_drained(batch: int) -> bool:
    """Finalize a cancelling or expiring batch once nothing of it is in flight, or its drain limit has passed."""
    with transaction.atomic():
        row = Batch.objects.select_for_update(no_key=True).get(pk=batch)
        if row.status not in states.CLOSING:
            return False
        now = clock.now()
        since = row.cancelling_at if row.status == Status.CANCELLING else row.expiring_at
        in_flight = Slice.objects.filter(batch=row, state=Slice.State.LEASED, lease_until__gte=now)
        if in_flight.exists() and since is not None and now < since + DRAIN_LIMIT:
            return False
        return finalize_now(batch)


def finalize_now(batch: int) -> bool:
    """Take nothing more and ring for the files; call it under the batch's lock."""
    moved = transition(batch, Status.FINALIZING)
    if moved:
        tasks.ring_finalize(batch)
    return moved


class StepLost(Exception):
    """Another worker took this step over, or the batch moved on: stop without a word."""


class Step:
    """The lease of one step of one batch. `renew` often; it asks the database every few seconds."""

    def __init__(self, batch: int, token: str, attempts: int) -> None:
        self.batch, self.token, self.attempts = batch, token, attempts
        self._renewed = time.monotonic()

    def renew(self) -> None:
        """Raises StepLost when the lease is no longer ours."""
        if time.monotonic() - self._renewed < STEP_RENEWAL:
            return
        self._renewed = time.monotonic()
        if not Batch.objects.filter(self.mine, pk=self.batch).update(step_until=clock.now() + STEP_LEASE):
            raise StepLost

    def postpone(self) -> None:
        """Give the step back for a while, uncounted: what it needs (a disk, a storage) is not there.

        Where that is the database, it is waited for; one that stays away lets the lease run out, and the try counts.
        """
        end = time.monotonic() + DATABASE_PATIENCE
        while not self._give_back() and time.monotonic() < end:
            time.sleep(DATABASE_PAUSE)

    def _give_back(self) -> bool:
        try:
            close_old_connections()
            Batch.objects.filter(self.mine, pk=self.batch).update(
                step_token="", step_until=clock.now() + STEP_PAUSE, step_attempts=F("step_attempts") - 1
            )
        except DatabaseError:
            return False
        return True

    @property
    def mine(self) -> Q:
        return Q(step_token=self.token)


def claim_step(batch: int, status: Status, where: Q | None = None) -> Step | None:
    """Lease the step that a batch in `status` needs (where `where` holds); None when it is leased, the batch is
    elsewhere, or the service holds."""
    if not marks.look():
        return None
    now = clock.now()
    token = f"{identity.step_holder()}/{secrets.token_hex(8)}"
    free = Q(step_until=None) | Q(step_until__lt=now)
    claimed = Batch.objects.filter(free, holding.working(), where or Q(), pk=batch, status=status).update(
        step_token=token, step_until=now + STEP_LEASE, step_attempts=F("step_attempts") + 1
    )
    if not claimed:
        return None
    return Step(batch, token, Batch.objects.values_list("step_attempts", flat=True).get(pk=batch))
