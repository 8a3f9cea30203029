"""What models are left with when an upstream of theirs is taken out, for the page that asks."""

from collections import defaultdict
from typing import Any

from django.db.models import Count, Sum

from batches.core.states import Status
from batches.expecting import Key
from batches.models import Slice, Upstream

NAMED = 5  # upstreams, of many


def left_without(rows: list[Any], deleted: bool = False) -> list[str]:
    """What each model would be left with, without these upstreams, and what waits for it. Three queries."""
    models, gone = {row.model for row in rows}, [row.pk for row in rows]
    remaining: dict[Key, list[Any]] = defaultdict(list)
    dedicated: set[Key] = set()
    others = Upstream.objects.filter(model__in=models).only(
        "model", "base_url", "tenant_id", "max_in_flight", "enabled"
    )
    for other in others.order_by("pk"):
        key = (other.model, other.tenant_id)
        if other.tenant_id:
            dedicated.add(key)
        if other.pk not in gone:
            remaining[key].append(other)
    waiting = _waiting(models, dedicated)
    groups = sorted({(row.model, row.tenant_id): row for row in rows}.items(), key=lambda group: group[1].pk)
    return [_told(row, remaining[key], waiting.get(key, (0, 0)), deleted) for key, row in groups]


def _waiting(models: set[str], dedicated: set[Key]) -> dict[Key, tuple[int, int]]:
    """Batches and lines that need each model, of a tenant's own upstreams and of the shared ones."""
    needed = Slice.objects.filter(state__lt=Slice.State.DONE, model__in=models, batch__status=Status.IN_PROGRESS)
    found: dict[Key, tuple[int, int]] = defaultdict(lambda: (0, 0))
    counted = needed.order_by().values_list("model", "tenant_id")
    for model, tenant, batches, lines in counted.annotate(Count("batch", distinct=True), Sum("lines")):
        key = (model, tenant if (model, tenant) in dedicated else None)
        found[key] = (found[key][0] + batches, found[key][1] + lines)
    return found


def _told(row: Any, remaining: list[Any], waiting: tuple[int, int], deleted: bool) -> str:
    whose = f"{row.model} of {row.tenant}" if row.tenant_id else row.model
    batches, lines = waiting
    wait = f"{batches:,} running {'batch' if batches == 1 else 'batches'} with up to {lines:,} lines left"
    on = [other for other in remaining if other.enabled]
    if on:
        slots = sum(other.max_in_flight for other in on)
        names = ", ".join(other.base_url for other in on[:NAMED])
        more = f" and {len(on) - NAMED} more" if len(on) > NAMED else ""
        return f"{whose}: {slots:,} slots are left, at {names}{more}, for {wait}."
    if not deleted or remaining:
        return (
            f"Warning: {whose} is left with no upstream that is on. {wait} would stand still while their 24 hours run"
            " on; new ones are accepted, and wait as well."
        )
    return f"Warning: {whose} is left with no upstream at all: {wait} would stand still, and new ones are refused."
