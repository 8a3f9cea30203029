"""The limit on active batches, exact under a race.

`admit` locks the tenant's row, so that of any number of racing submissions each counts what the others wrote.
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
            f"{active} of at most {limit} batches are active. Wait until one ends, or cancel one.",
            headers={"Retry-After": str(retry_after())},
        )


def admit(tenant_id: int, active: Callable[[], int], retry_after: Callable[[], int]) -> Tenant:
    """Lock the tenant and check its limit; call it in the transaction that inserts the batch."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("admit() needs the transaction of the insert")
    tenant = Tenant.objects.select_for_update(no_key=True).get(pk=tenant_id)
    check(tenant, active(), retry_after)
    return tenant
