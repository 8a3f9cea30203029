"""What people make, of a tenant or of the staff: once however often it is asked for, and on the tenant's trail."""

from collections.abc import Callable
from typing import Any

from batches.idempotency import Attempt, Made
from tenants import trail
from tenants.models import Tenant


class Noted(Attempt):
    """A person's attempt: what it makes is written into the trail in the same transaction, as `action` of `actor`."""

    def __init__(self, tenant: Tenant, address: str, actor: str, action: str, *, key: str = "", **details: Any) -> None:
        super().__init__(tenant, None, address, key=key)
        self._actor, self._action, self._details = actor, action, details

    def create(self, make: Callable[[Tenant], Made]) -> Made:
        """As any attempt does."""

        def noted(tenant: Tenant) -> Made:
            made = make(tenant)
            trail.record(tenant, self._actor, self._action, made.public_id, **self._details)
            return made

        return super().create(noted)
