"""Pages of Stripe's for a tenant: leave a payment method, buy credits, look after both."""

import re
from typing import Any

from rest_framework.decorators import api_view, parser_classes
from rest_framework.request import Request
from rest_framework.response import Response

from batches.api import fields, repeats
from billing.stripe import checkout as pages
from billing.stripe import opening
from tenants.authentication import tenant_of
from tenants.errors import Refused


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
        session = opening.opened(lambda: pages.setup(tenant, success, cancel, key))
    else:
        amount = opening.amount(sent.get("amount_usd"))
        session = opening.opened(lambda: pages.purchase(tenant, amount, success, cancel, key))
    shown = {"object": "billing.checkout", "id": session["id"], "mode": mode}
    return Response(shown | {"url": session["url"], "expires_at": session["expires_at"]})


@api_view(["POST"])
@parser_classes(fields.PARSERS)
def portal(request: Request) -> Response:
    """Open a page where the tenant looks after its payment methods and invoices."""
    fields.query(request)
    sent = fields.body(request, "return_url")
    tenant, url = tenant_of(request).pk, _url(request, sent, "return_url")
    return Response({"object": "billing.portal", "url": opening.opened(lambda: pages.portal(tenant, url))["url"]})


def _mode(sent: dict[str, Any]) -> str:
    mode = sent.get("mode")
    if mode not in pages.MODES:
        raise Refused(400, "invalid_mode", "mode must be setup or payment.", param="mode")
    if mode == "setup" and "amount_usd" in sent:
        raise Refused(400, "invalid_amount", "amount_usd belongs to mode=payment: leave it out.", param="amount_usd")
    return str(mode)


def _url(request: Request, sent: dict[str, Any], name: str) -> str:
    """Where the page leads back to: this service's own site, unless the request says."""
    if name not in sent:
        return request.build_absolute_uri("/")
    url = sent[name]
    if not isinstance(url, str) or len(url) > pages.MAX_URL or not re.fullmatch(pages.URL, url):
        raise opening.no_way_back(name)
    return url
