"""How each upstream does at this moment, as its runners tell it."""

from datetime import datetime
from typing import NamedTuple

from django.db.models import Exists, OuterRef

from batches import upstreams as kept
from batches.engine import health
from batches.engine.health import Health
from batches.models import Upstream
from billing.models import Price

SAID = 20  # answers of a minute before their shares say anything


class Doing(NamedTuple):
    """An upstream, without its key."""

    pk: int
    model: str
    base_url: str
    tenant: int | None
    owner: str  # the tenant's name; "": everybody's
    enabled: bool
    cooling_until: datetime | None
    state: str  # upstreams.state, or failing
    priced: bool  # whether its model has a price
    now: Health

    @property
    def tokens_per_second(self) -> int:
        return self.now.tokens // 60


def upstreams(now: datetime) -> list[Doing]:
    """Those in trouble first, those that are off last. One query."""
    priced = Price.objects.filter(model=OuterRef("model"), effective_at__lte=now)
    columns = ("pk", "model", "base_url", "tenant_id", "tenant__name", "enabled", "cooling_until", "severed", "priced")
    rows = Upstream.objects.order_by().annotate(priced=Exists(priced)).values_list(*columns, named=True)
    found = []
    for row in health.annotated(rows, now).values_list(*columns, *health.COLUMNS, named=True):
        told = health.read(*row[len(columns) :])
        state = kept.state(row, now, told.in_flight)
        state = "failing" if state == "on" and _refuses(told) else state
        owner = row.tenant__name or ""
        found.append(
            Doing(
                row.pk, row.model, row.base_url, row.tenant_id, owner, row.enabled, row.cooling_until, state,
                row.priced, told,
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (not one.enabled, one.state == "on", one.model, one.owner, one.pk))


def _refuses(told: Health) -> bool:
    """Most of what it was asked in the last minute came to nothing."""
    bad = told.throttled + told.errors
    return bad + told.answers >= SAID and bad > told.answers
