"""The promise of 24 hours: how it was kept, and which batches are about to break it."""

from datetime import datetime
from typing import NamedTuple

from batches import attainment, expecting
from batches.attainment import Attainment
from batches.core.states import ACTIVE
from batches.models import Batch

SHOWN, COUNTED = 10, 100


class Pressing(NamedTuple):
    """A batch whose deadline is at risk."""

    pk: int
    public_id: str
    tenant: str
    model: str | None  # None: several
    finished: int
    total: int
    deadline: datetime
    expected_at: datetime | None
    reason: str  # what it waits for: a code, and a sentence

    @property
    def why(self) -> str:
        return self.reason.partition(": ")[2] or self.reason

    @property
    def percent(self) -> int:
        return self.finished * 100 // self.total if self.total else 0


class Promises(NamedTuple):
    this: Attainment  # of this month (UTC), all tenants
    last: Attainment
    at_risk: int  # no further than COUNTED
    more: bool  # than that
    pressing: list[Pressing]  # SHOWN of them, those due first


def promises(now: datetime) -> Promises:
    """Two queries."""
    this, last = attainment.lately(now.date().replace(day=1))
    rows = Batch.objects.filter(expecting.at_risk(now), status__in=ACTIVE).order_by("deadline", "pk")
    columns = ("pk", "public_id", "tenant__name", "model", "completed", "failed", "total", "deadline", "expected_at")
    found = [
        Pressing(pk, public_id, tenant, model, completed + failed, *rest)
        for pk, public_id, tenant, model, completed, failed, *rest in rows.values_list(*columns, "waiting_reason")[
            : COUNTED + 1
        ]
    ]
    return Promises(this, last, min(len(found), COUNTED), len(found) > COUNTED, found[:SHOWN])
