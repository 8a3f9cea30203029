"""Opening one of Stripe's pages, for a program or a person: what they are refused, and that few wait at once."""

import logging
import re
import threading
from collections.abc import Callable
from typing import Any

from billing.stripe import checkout, client
from billing.stripe.client import Object
from tenants.errors import Refused

RETRY_AFTER = 30  # seconds
PLACES = threading.BoundedSemaphore(16)  # each may wait for Stripe, and there are other requests

log = logging.getLogger(__name__)


def opened(ask: Callable[[], Object]) -> Object:
    """What Stripe answers. Raises the Refused that stands for its silence."""
    if not client.configured():
        message = "This service takes no payments by itself. Ask its operator how to pay."
        raise Refused(409, "payments_not_configured", message)
    if not PLACES.acquire(blocking=False):
        raise _unavailable()
    try:
        return ask()
    except client.Failed as failed:
        raise _refusal(failed) from None
    finally:
        PLACES.release()


def _refusal(failed: client.Failed) -> Refused:
    if failed.reused:
        cure = "Send another key, or what you sent with this one."
        return Refused(422, "idempotency_key_reused", f"This Idempotency-Key was sent with another request. {cure}")
    if failed.param in ("success_url", "cancel_url", "return_url"):
        return no_way_back(failed.param)
    log.warning("A page of Stripe's could not be opened: %s", failed)
    return _unavailable()


def _unavailable() -> Refused:
    message = "The payment service can't be reached, or refuses. Try again in a moment."
    return Refused(503, "payments_unavailable", message, headers={"Retry-After": str(RETRY_AFTER)})


def amount(value: Any) -> str:
    """USD that may be bought. Text alone: a JSON number may have been rounded on its way. Raises Refused 400."""
    if not isinstance(value, str) or not re.fullmatch(checkout.AMOUNT, value):
        message = 'amount_usd must be USD in whole cents as a string, from 1 to 100,000, such as "50".'
        raise Refused(400, "invalid_amount", message, param="amount_usd")
    return value


def no_way_back(name: str) -> Refused:
    """The refusal of an address that a page could lead back to."""
    message = f"{name} must be an https:// address, or http:// on localhost."
    return Refused(400, "invalid_return_url", message, param=name)
