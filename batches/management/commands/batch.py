"""`manage.py batch list`: what is active, and what may miss its deadline."""

from typing import Any

from batches import expecting
from batches.core.states import ACTIVE
from batches.models import Batch
from tenants import clock
from tenants.management.console import VerbCommand, shown_time


class Command(VerbCommand):
    help = "Batches that are active."

    def add_verbs(self) -> None:
        show = self.verb("list", self.show, "Print every active batch, the oldest first.")
        show.add_argument("--at-risk", action="store_true", help="Only those that may miss their deadline.")

    def show(self, at_risk: bool) -> None:
        rows = Batch.objects.filter(status__in=ACTIVE).select_related("tenant").order_by("pk")
        risky = set(rows.filter(expecting.at_risk(clock.now())).values_list("pk", flat=True))
        for batch in rows.filter(pk__in=risky) if at_risk else rows:
            self.say(_shown(batch) | {"deadline_at_risk": batch.pk in risky})


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
    }
