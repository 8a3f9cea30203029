"""Telling a tenant how far its limit of the month is spent: at a batch's charge, and while batches run in the sweep."""

from django.db import transaction

from batches import reserving
from batches.core.states import ACTIVE
from batches.models import Batch
from batches.webhooks import emitting
from billing import ledger, spending
from tenants import clock


def look(tenant: int, apart: int | None = None) -> None:
    """Tell of each share of its limit that the tenant has come to: once a month. One query where it has no limit.

    The batch `apart` is charged already.
    """
    limit = spending.alerts(tenant)
    if limit is None:
        return
    spent = ledger.charged_since(tenant, limit.month) + reserving.running(tenant, apart).cost
    if due := limit.due(spent):
        with transaction.atomic():
            if limit.mark(due[-1]):
                emitting.alert(tenant, limit.month, due, clock.now())


def look_around() -> None:
    """At every tenant with a limit whose running batches cost something."""
    running = Batch.objects.filter(status__in=ACTIVE, cost__gt=0)
    for tenant in spending.to_alert(running.values("tenant")):
        look(tenant)
