"""How many batches of a month were there within their 24 hours. In batches/, since billing knows no batches."""

from datetime import date
from typing import NamedTuple

from django.db.models import Count, Q

from batches.models import Batch
from tenants import clock


class Attainment(NamedTuple):
    """Of the batches that ended in a month (UTC) and were promised 24 hours: how many there were, how many met them."""

    batches: int = 0
    met: int = 0

    @property
    def share(self) -> float | None:
        """At most four decimals, rounded down: 1.0 is all of them. None of none."""
        return self.met * 10_000 // self.batches / 10_000 if self.batches else None


def of_month(month: date, tenant: int | None = None) -> dict[int, Attainment]:
    """By tenant; of that one alone where it is named. Tenants without such batches are left out."""
    span = {"ended_at__gte": clock.midnight(month), "ended_at__lt": clock.midnight(clock.following(month))}
    rows = Batch.objects.filter(**span, sla_met__isnull=False)
    if tenant is not None:
        rows = rows.filter(tenant_id=tenant)
    counted = rows.values_list("tenant_id").annotate(all=Count("pk"), met=Count("pk", filter=Q(sla_met=True)))
    return {owner: Attainment(batches, met) for owner, batches, met in counted.order_by("tenant_id")}
