"""What the scheduler is told before a claim: batches with open slices, the model's slots and pace, who was served."""

from datetime import datetime

from django.db.models import Count, F, Max, OuterRef, Q, Subquery, Sum

from batches import lifecycle
from batches.core.scheduling import Candidate, Load
from batches.models import Result, Slice, Upstream
from tenants.models import Tenant

PACE_RESULTS = 512  # latest results that say how fast a model is


def candidates(wanted: Q, open_: Q, now: datetime) -> list[Candidate]:
    """Batches with a slice that is `open_`, can be claimed. Their work is all that is not done, in hand or not."""
    unfinished = Slice.objects.filter(wanted, lifecycle.runnable("batch__"), state__lt=Slice.State.DONE)
    rows = (
        unfinished.values_list(
            "batch_id", "tenant_id", "tenant__weight", "tenant__reserved_slots", "batch__deadline", "batch__raised"
        )
        .annotate(Sum("tokens"), Max("tokens"), open=Count("pk", filter=open_))
        .filter(open__gt=0)
    )
    return [
        Candidate(batch, tenant, weight, reserved, work, largest, (deadline - now).total_seconds(), raised)
        for batch, tenant, weight, reserved, deadline, raised, work, largest, _ in rows
    ]


def load(model: str, tenants: set[int]) -> Load:
    """The model's slots, for a tenant with upstreams of its own those, and their pace in the latest results."""
    rows = Upstream.objects.filter(model=model, enabled=True).only("tenant_id", "max_in_flight")
    dedicated = [row for row in rows if row.tenant_id in tenants]
    upstreams = dedicated or [row for row in rows if row.tenant_id is None]
    newest = Result.objects.aggregate(newest=Max("pk"))["newest"] or 0
    latest = Result.objects.filter(pk__gt=newest - PACE_RESULTS, upstream_id__in=[row.pk for row in upstreams])
    spent, tokens = latest.aggregate(
        spent=Sum("latency_ms"), tokens=Sum(F("input_tokens") + F("output_tokens"))
    ).values()
    return Load(sum(row.max_in_flight for row in upstreams), spent / 1000 / tokens if tokens else 0.0)


def served(model: str, tenants: list[int]) -> tuple[dict[int, float], float]:
    """The virtual time of each of these tenants' last claim of the model; and the last of all, if none has any."""
    last = Slice.objects.filter(model=model, tenant=OuterRef("pk"), virtual__isnull=False).order_by("-virtual")
    rows = Tenant.objects.filter(pk__in=tenants).values_list("pk", Subquery(last.values("virtual")[:1]))
    found = {tenant: virtual for tenant, virtual in rows if virtual is not None}
    if found:
        return found, 0.0
    tagged = Slice.objects.filter(model=model, virtual__isnull=False)
    return found, tagged.aggregate(newest=Max("virtual"))["newest"] or 0.0
