"""What people make, in the trail."""

from collections.abc import Callable
from typing import Any

from batches.idempotency import Attempt, Made
from tenants import trail
from tenants.models import Tenant
from tenants.web.access import Seat


class Traced(Attempt):
    """A person's attempt: what it makes is written into the trail in the same transaction, as `action`."""

    def __init__(self, seat: Seat, address: str, action: str, *, key: str = "", **details: Any) -> None:
        super().__init__(seat.tenant, None, address, key=key)
        self._actor, self._action, self._details = seat.user.email, action, details

    def create(self, make: Callable[[Tenant], Made]) -> Made:
        """As any attempt does."""

        def traced(tenant: Tenant) -> Made:
            made = make(tenant)
            trail.record(tenant, self._actor, self._action, made.public_id, **self._details)
            return made

        return super().create(traced)
