"""Files whose time is over: the sweep removes them, a few at a time, of each tenant as many as of any other."""

from typing import Any

from django.db.models import OuterRef, Subquery

from batches import files, forgetting
from batches.models import Batch, File
from tenants import clock
from tenants.models import Tenant

AT_ONCE = 100  # files a sweep; a tenant's oldest first


def remove() -> None:
    """Remove late files, but for those in use. What one keeps is removed in a short transaction of its own."""
    now = clock.now()
    tenants = list(_tenants().filter(first__lte=now).order_by("?").values_list("pk", flat=True)[:AT_ONCE])
    late = File.objects.filter(~files.used(), deleted_at=None, expires_at__lte=now).order_by("expires_at")
    for tenant in tenants:
        for file in late.filter(tenant=tenant)[: AT_ONCE // len(tenants)]:
            for batch in Batch.objects.filter(receipts_file=file).values_list("pk", flat=True):
                forgetting.names(batch)  # before the file goes: what a crash left is found again by it
            files.remove(file)


def _tenants() -> Any:
    """With the end of their file that goes first: one look into the index each, however many files there are."""
    ending = File.objects.filter(tenant=OuterRef("pk"), deleted_at=None, expires_at__isnull=False)
    return Tenant.objects.annotate(first=Subquery(ending.order_by("expires_at").values("expires_at")[:1]))
