"""What people make: once a form, and on the trail."""

import re
import secrets
from typing import Any

from batches.noted import Noted
from tenants.errors import Refused
from tenants.web.access import Seat

_FORM = re.compile(r"[0-9a-f]{32}")


def fresh_form() -> str:
    """What names a form that is shown: sent twice, it makes one thing."""
    return secrets.token_hex(16)


def is_form(text: str) -> bool:
    """Whether `fresh_form` can have made it."""
    return _FORM.fullmatch(text) is not None


class Traced(Noted):
    """The attempt of a tenant's person.

    `form` names the form that was sent, where it makes one thing however often it is sent. Raises Refused 400 when it
    is none of ours.
    """

    def __init__(self, seat: Seat, address: str, action: str, *, form: str | None = None, **details: Any) -> None:
        if form is not None and not is_form(form):
            message = "This form is not the page's own: load the page again."
            raise Refused(400, "invalid_idempotency_key", message)
        key = f"form-{form}" if form else ""
        super().__init__(seat.tenant, address, seat.user.email, action, key=key, **details)
