"""The limit on active batches, exact under a race; and the lock that makes it so.

Under `lock`, the lock of the tenant's row, each of any number of racing submissions counts what the others wrote.
On SQLite the lock is the transaction itself (BEGIN IMMEDIATE).
"""

from collections.abc import Callable

from django.db import transaction

from tenants.errors import Refused
from tenants.models import Tenant


def check(tenant: Tenant, active: int, retry_after: Callable[[], int]) -> None:
    """Refuse (429, Retry-After in seconds) when `active` batches already fill the tenant's limit."""
    limit = tenant.active_batch_limit
    if limit is not None and active >= limit:
        raise Refused(
            429,
            "concurrent_batch_limit_exceeded",
            f"Your tenant has {active} active batches, of at most {limit}. Wait until one ends, or cancel one.",
            headers={"Retry-After": str(retry_after())},
        )


def lock(tenant_id: int) -> Tenant:
    """The tenant's row, locked until the transaction's end: for what must count before it inserts."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("lock() needs the transaction of the insert")
    return Tenant.objects.select_for_update(no_key=True).get(pk=tenant_id)
