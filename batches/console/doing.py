"""How each upstream does at this moment, as its runners tell it."""

from datetime import datetime
from typing import NamedTuple

from django.db.models import Exists, OuterRef

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
    rests: bool  # it failed: a runner tries it again then
    priced: bool  # whether its model has a price
    now: Health

    @property
    def refuses(self) -> bool:
        """Most of what it was asked in the last minute came to nothing."""
        bad = self.now.throttled + self.now.errors
        return bad + self.now.answers >= SAID and bad > self.now.answers

    @property
    def state(self) -> str:
        if not self.enabled:
            return "draining" if self.now.in_flight else "off"
        if self.rests:
            return "resting"
        return "failing" if self.refuses else "on"

    @property
    def tokens_per_second(self) -> int:
        return self.now.tokens // 60


def upstreams(now: datetime) -> list[Doing]:
    """Those in trouble first, those that are off last. One query."""
    priced = Price.objects.filter(model=OuterRef("model"), effective_at__lte=now)
    columns = ("pk", "model", "base_url", "tenant_id", "tenant__name", "enabled", "cooling_until", "priced")
    rows = Upstream.objects.order_by().annotate(priced=Exists(priced)).values_list(*columns)
    found = []
    for row in health.annotated(rows, now).values_list(*columns, *health.COLUMNS):
        pk, model, base_url, tenant, owner, enabled, until, has_price, *figures = row
        rests = enabled and until is not None and until > now
        found.append(
            Doing(
                pk, model, base_url, tenant, owner or "", enabled, until, rests, has_price, health.read(*figures)
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (not one.enabled, one.state == "on", one.model, one.owner, one.pk))
