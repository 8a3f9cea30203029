"""What an operator decides about each batch that would go on after a restore, and the end of the hold.

Every decision is on the tenant's trail, in the transaction that makes it.
"""

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet

from batches import lifecycle, objects, results
from batches.core.states import Status
from batches.models import Batch
from batches.restored import adopting, finding
from batches.restored.adopting import NotAdopted
from batches.restored.finding import Found
from tenants import clock, holding, trail
from tenants.models import AuditEvent

SENT_AGAIN = "batch.sent_again"
WOULD_RUN = (Status.VALIDATING, Status.IN_PROGRESS)  # the others send nothing more


class NotDecided(Exception):
    """It can't be done: why, and the cure."""


def open_batches() -> QuerySet[Batch]:
    """Those of which lines would be sent once the service works again."""
    return Batch.objects.filter(status__in=WOULD_RUN).select_related("tenant", "input_file").order_by("pk")


def sent_again() -> set[str]:
    """Ids of batches of which it was decided, in this hold, that they are sent again."""
    held = holding.held()
    events = AuditEvent.objects.filter(action=SENT_AGAIN)
    return set(events.filter(created_at__gte=held.since).values_list("target", flat=True)) if held else set()


def undecided() -> list[Batch]:
    decided = sent_again()
    return [batch for batch in open_batches() if batch.public_id not in decided]


def adopt(batch: Batch, found: list[Found], actor: str, reason: str) -> dict[str, Any]:
    """End it by its stored results; what came of it. Raises NotDecided, OSError."""
    _held()
    stored = finding.whole(batch, found)
    if stored is None:
        raise NotDecided(f"The storage has no whole results of {batch.public_id}: send it again, or hand it back.")
    details = {"object": stored.key, "sha256": objects.digest(stored.key)[1], "reason": reason}

    def note() -> None:
        trail.record(batch.tenant, actor, "batch.adopted", batch.public_id, **details)

    try:
        ended = adopting.adopt(batch, stored, note)
    except NotAdopted as error:
        raise NotDecided(f"{batch.public_id} can't take the results {stored.key}: {error}.") from None
    file = ended.results_file
    if file is None:
        raise NotDecided(f"{batch.public_id} is {ended.status}: its end is made once the service works again.")
    return _shown(ended) | details | {"same": details["sha256"] == file.sha256}


def hand_back(batch: Batch, actor: str, reason: str) -> dict[str, Any]:
    """Cancel what is left of it: no line more is sent or charged. Raises NotDecided."""
    _held()
    with holding.deciding():
        with transaction.atomic():
            trail.record(batch.tenant, actor, "batch.handed_back", batch.public_id, reason=reason)
            if not lifecycle.transition(batch.pk, Status.CANCELLING):
                raise NotDecided(f"{batch.public_id} does not run any more.")
            lifecycle.close_if_drained(batch.pk)
        results.finalize(batch.pk)
    return _shown(Batch.objects.select_related("tenant").get(pk=batch.pk))


def send_again(batch: Batch, hours: int | None, actor: str, reason: str) -> dict[str, Any]:
    """Let it go on once the service works again; within so many hours, where its own 24 are over. Raises NotDecided."""
    _held()
    now = clock.now()
    if hours is None and batch.deadline <= now:
        raise NotDecided(f"The 24 hours of {batch.public_id} are over: give it --hours, or hand it back.")
    with transaction.atomic():
        rows = Batch.objects.filter(pk=batch.pk, status__in=WOULD_RUN)
        deadline = {"deadline": F("deadline")} if hours is None else {"deadline": now + timedelta(hours=hours)}
        if not rows.update(**deadline):
            raise NotDecided(f"{batch.public_id} does not run any more.")
        trail.record(batch.tenant, actor, SENT_AGAIN, batch.public_id, lines=left(batch), reason=reason)
    batch.refresh_from_db()
    return _shown(batch)


def left(batch: Batch) -> int:
    """Lines without a result: what would be sent."""
    return batch.total - batch.completed - batch.failed


def _held() -> None:
    if holding.held() is None:
        raise NotDecided("The service does not hold: there is nothing to decide.")


def _shown(batch: Batch) -> dict[str, Any]:
    counts = {"total": batch.total, "completed": batch.completed, "failed": batch.failed, "cost_pico": int(batch.cost)}
    return {"batch": batch.public_id, "tenant": batch.tenant.name, "status": batch.status, **counts}
