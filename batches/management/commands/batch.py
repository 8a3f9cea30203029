"""`manage.py batch list | pause | resume | raise | lower`: what is active or at risk, and the operator's levers."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from django.core.management.base import CommandError
from django.db import transaction

from batches import expecting, lifecycle
from batches.core.states import ACTIVE
from batches.models import Batch
from tenants import clock, trail
from tenants.management.console import VerbCommand, shown_time


class Lever(NamedTuple):
    """What an operator can do to one batch."""

    pull: Callable[[Batch], bool]
    action: str  # on the trail
    purpose: str
    otherwise: str  # why it was not done


LEVERS = {
    "pause": Lever(
        lifecycle.pause_by_operator, "batch.paused", "Send nothing more of it.", "is not being run, or paused already"
    ),
    "resume": Lever(
        lifecycle.resume_by_operator, "batch.resumed", "End an operator's pause.", "was not paused by an operator"
    ),
    "raise": Lever(
        lifecycle.raise_priority, "batch.raised", "Run it before all that is not in danger.", "was raised, or has ended"
    ),
    "lower": Lever(
        lifecycle.lower_priority, "batch.lowered", "Run it in its turn again.", "was not raised, or has ended"
    ),
}


class Command(VerbCommand):
    help = "Batches that are active."

    def add_verbs(self) -> None:
        show = self.verb("list", self.show, "Print every active batch, the oldest first.")
        show.add_argument("--at-risk", action="store_true", help="Only those that may miss their deadline.")
        for name, lever in LEVERS.items():
            parser = self.verb(name, partial(self.pull, lever), lever.purpose)
            parser.add_argument("public_id", metavar="ID", help="The whole of it, as `batch list` has it.")

    def show(self, at_risk: bool) -> None:
        rows = Batch.objects.filter(status__in=ACTIVE).select_related("tenant").order_by("pk")
        risky = set(rows.filter(expecting.at_risk(clock.now())).values_list("pk", flat=True))
        for batch in rows.filter(pk__in=risky) if at_risk else rows:
            self.say(_shown(batch) | {"deadline_at_risk": batch.pk in risky})

    def pull(self, lever: Lever, public_id: str) -> None:
        batch = Batch.objects.select_related("tenant").filter(public_id=public_id).first()
        if batch is None:
            raise CommandError(f"There is no batch {public_id!r}: `batch list` shows those that are active.")
        with transaction.atomic():
            if not lever.pull(batch):
                raise CommandError(f"{public_id} {lever.otherwise}: `batch list` shows how it is.")
            trail.record(batch.tenant, trail.OPERATOR, lever.action, public_id)
        batch.refresh_from_db()
        self.say(_shown(batch))


def _shown(batch: Batch) -> dict[str, Any]:
    return {
        "id": batch.public_id,
        "tenant": batch.tenant.name,
        "status": batch.status,
        "model": batch.model,
        "total": batch.total,
        "completed": batch.completed,
        "failed": batch.failed,
        "deadline": shown_time(batch.deadline),
        "expected": shown_time(batch.expected_at),
        "waiting_reason": batch.waiting_reason or None,
        "paused_reason": batch.paused_reason or None,
        "raised": batch.raised,
    }
