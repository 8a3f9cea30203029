"""How long a tenant's files are kept, and how many bytes of them: docs/decisions/0035-keeping.md

`File.expires_at` alone says when a file goes; the sweep removes what is late (files.py). It is set when the file is
made, and moves only to be earlier.
"""

from datetime import datetime, timedelta

from django.db.models import DateTimeField, ExpressionWrapper, F, Q, Sum, Value

from batches.models import File
from tenants.errors import Refused
from tenants.models import Tenant


def until(tenant: Tenant, made: datetime, asked: int | None = None) -> datetime:
    """When a file goes: after the tenant's retention, or after the `asked` seconds where that is earlier."""
    kept = tenant.retention if asked is None else min(tenant.retention, timedelta(seconds=asked))
    return made + kept


def shorten(tenant: Tenant) -> int:
    """The tenant's retention was changed: files that it would keep longer go earlier, none goes later. How many.

    In the transaction of the change, under the tenant's lock: who makes a file there reads one or the other.
    """
    end = ExpressionWrapper(F("created_at") + Value(tenant.retention), output_field=DateTimeField())
    longer = Q(expires_at=None) | Q(expires_at__gt=end)
    return File.objects.filter(longer, tenant=tenant, deleted_at=None).exclude(storage_key="").update(expires_at=end)


def stored(tenant: int) -> int:
    """Bytes of the tenant's files: inputs, and what was written of its batches."""
    return File.objects.filter(tenant_id=tenant, deleted_at=None).aggregate(bytes=Sum("bytes"))["bytes"] or 0


def check_room(tenant: Tenant, more: int) -> None:
    """Refuse (403) `more` bytes that the tenant's limit has no room for: early, by what a request says of itself, and
    with authority under the tenant's lock. What its batches write counts, and is never refused."""
    used = stored(tenant.pk)
    if used + more > tenant.stored_limit:
        raise Refused(
            403,
            "storage_limit_exceeded",
            f"Your tenant stores {used:,} bytes of at most {tenant.stored_limit:,}: {more:,} more have no room. Delete"
            " files, wait until some expire, or ask the operator of this service for more.",
        )
