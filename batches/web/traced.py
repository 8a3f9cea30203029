"""What people make: once a form, and on the trail."""

import re
import secrets
from collections.abc import Callable
from typing import Any

from batches.idempotency import Attempt, Made
from tenants import trail
from tenants.errors import Refused
from tenants.models import Tenant
from tenants.web.access import Seat

_FORM = re.compile(r"[0-9a-f]{32}")


def fresh_form() -> str:
    """What names a form that is shown: sent twice, it makes one thing."""
    return secrets.token_hex(16)


def is_form(text: str) -> bool:
    """Whether `fresh_form` can have made it."""
    return _FORM.fullmatch(text) is not None


class Traced(Attempt):
    """A person's attempt: what it makes is written into the trail in the same transaction, as `action`.

    `form` names the form that was sent, where it makes one thing however often it is sent. Raises Refused 400 when it
    is none of ours.
    """

    def __init__(self, seat: Seat, address: str, action: str, *, form: str | None = None, **details: Any) -> None:
        if form is not None and not is_form(form):
            message = "This form is not the page's own: load the page again."
            raise Refused(400, "invalid_idempotency_key", message)
        super().__init__(seat.tenant, None, address, key=f"form-{form}" if form else "")
        self._actor, self._action, self._details = seat.user.email, action, details

    def create(self, make: Callable[[Tenant], Made]) -> Made:
        """As any attempt does."""

        def traced(tenant: Tenant) -> Made:
            made = make(tenant)
            trail.record(tenant, self._actor, self._action, made.public_id, **self._details)
            return made

        return super().create(traced)
