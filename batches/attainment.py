"""How many batches of a month were there within their 24 hours. In batches/, since billing knows no batches."""

from datetime import date, timedelta
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


def lately(month: date) -> tuple[Attainment, Attainment]:
    """Of all tenants together: of that month, and of the one before. One query, of the index batch_kept alone."""
    first, last = clock.midnight(month), clock.midnight((month - timedelta(days=1)).replace(day=1))
    this, met = Q(ended_at__gte=first), Q(sla_met=True)
    rows = Batch.objects.filter(sla_met__isnull=False, ended_at__gte=last)
    sums = rows.aggregate(
        this=Count("ended_at", filter=this), met=Count("ended_at", filter=this & met),
        last=Count("ended_at", filter=~this), kept=Count("ended_at", filter=~this & met),
    )  # fmt: skip
    return Attainment(sums["this"], sums["met"]), Attainment(sums["last"], sums["kept"])
