"""Pages of Stripe's for a tenant: leave a payment method, buy credits, look after both."""

import logging
import re
import threading
from collections.abc import Callable
from typing import Any

from rest_framework.decorators import api_view, parser_classes
from rest_framework.request import Request
from rest_framework.response import Response

from batches.api import fields, repeats
from billing.stripe import checkout as pages
from billing.stripe import client
from tenants.authentication import tenant_of
from tenants.errors import Refused

RETRY_AFTER = 30  # seconds
PLACES = threading.BoundedSemaphore(16)  # each may wait for Stripe, and there are other requests

log = logging.getLogger(__name__)


@api_view(["POST"])
@parser_classes(fields.PARSERS)
def checkout(request: Request) -> Response:
    """Open a page that asks for a payment method, or sells credits."""
    fields.query(request)
    sent = fields.body(request, "mode", "amount_usd", "success_url", "cancel_url")
    key = repeats.begin(request).key
    mode, success = _mode(sent), _url(request, sent, "success_url")
    cancel = _url(request, sent, "cancel_url") if "cancel_url" in sent else success
    tenant = tenant_of(request).pk
    if mode == "setup":
        session = _asked(lambda: pages.setup(tenant, success, cancel, key))
    else:
        amount = _amount(sent.get("amount_usd"))
        session = _asked(lambda: pages.purchase(tenant, amount, success, cancel, key))
    shown = {"object": "billing.checkout", "id": session["id"], "mode": mode}
    return Response(shown | {"url": session["url"], "expires_at": session["expires_at"]})


@api_view(["POST"])
@parser_classes(fields.PARSERS)
def portal(request: Request) -> Response:
    """Open a page where the tenant looks after its payment methods and invoices."""
    fields.query(request)
    sent = fields.body(request, "return_url")
    tenant, url = tenant_of(request).pk, _url(request, sent, "return_url")
    return Response({"object": "billing.portal", "url": _asked(lambda: pages.portal(tenant, url))["url"]})


def _asked(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What Stripe answers, or the refusal that stands for its silence."""
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
        return _no_way_back(failed.param)
    log.warning("A page of Stripe's could not be opened: %s", failed)
    return _unavailable()


def _unavailable() -> Refused:
    message = "The payment service can't be reached, or refuses. Try again in a moment."
    return Refused(503, "payments_unavailable", message, headers={"Retry-After": str(RETRY_AFTER)})


def _mode(sent: dict[str, Any]) -> str:
    mode = sent.get("mode")
    if mode not in pages.MODES:
        raise Refused(400, "invalid_mode", "mode must be setup or payment.", param="mode")
    if mode == "setup" and "amount_usd" in sent:
        raise Refused(400, "invalid_amount", "amount_usd belongs to mode=payment: leave it out.", param="amount_usd")
    return str(mode)


def _amount(value: Any) -> str:
    """Text alone: a JSON number may have been rounded on its way."""
    if not isinstance(value, str) or not re.fullmatch(pages.AMOUNT, value):
        message = 'amount_usd must be USD in whole cents as a string, from 1 to 100,000, such as "50".'
        raise Refused(400, "invalid_amount", message, param="amount_usd")
    return value


def _url(request: Request, sent: dict[str, Any], name: str) -> str:
    """Where the page leads back to: this service's own site, unless the request says."""
    if name not in sent:
        return request.build_absolute_uri("/")
    url = sent[name]
    if not isinstance(url, str) or len(url) > pages.MAX_URL or not re.fullmatch(pages.URL, url):
        raise _no_way_back(name)
    return url


def _no_way_back(name: str) -> Refused:
    message = f"{name} must be an https:// address, or http:// on localhost."
    return Refused(400, "invalid_return_url", message, param=name)
