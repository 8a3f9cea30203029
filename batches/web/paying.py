"""The way to Stripe's own pages: a payment method, credits, and looking after both. For owners alone."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST

from batches.web import billing
from billing.stripe import checkout as pages
from billing.stripe import opening
from billing.stripe.client import Object
from tenants import trail
from tenants.errors import Refused
from tenants.web.access import Role, Seat, seat

CURES = {
    "invalid_amount": "Write USD from 1 to 100,000, with at most two decimals, such as 50 or 49.90.",
    "invalid_return_url": "Stripe does not lead back to this address of the service. Ask its operator to serve it by"
    " HTTPS.",
}


@require_POST
@seat(Role.OWNER)
def payment_method(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Open a page of Stripe's that asks for a card."""
    done, cancelled = _back(request, seat, "method"), _back(request, seat, "cancelled")
    return _led(request, seat, "payment_method.asked", {}, lambda: pages.setup(seat.tenant.pk, done, cancelled))


@require_POST
@seat(Role.OWNER)
def buy(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Open a page of Stripe's that sells credits."""
    done, cancelled = _back(request, seat, "credits"), _back(request, seat, "cancelled")
    try:
        usd = opening.amount(request.POST.get("amount_usd", "").strip())
    except Refused as refused:
        return _refused(request, seat, refused)
    asked = {"amount_usd": usd}
    return _led(request, seat, "credits.asked", asked, lambda: pages.purchase(seat.tenant.pk, usd, done, cancelled))


@require_POST
@seat(Role.OWNER)
def portal(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Open a page of Stripe's where payment methods and invoices are looked after."""
    back = _back(request, seat, "portal")
    return _led(request, seat, "portal.opened", {}, lambda: pages.portal(seat.tenant.pk, back))


def _back(request: HttpRequest, seat: Seat, what: str) -> str:
    return request.build_absolute_uri(f"{reverse('billing', args=[seat.tenant.public_id])}?back={what}")


def _led(
    request: HttpRequest, seat: Seat, action: str, details: dict[str, str], ask: Callable[[], Object]
) -> HttpResponse:
    """A page with the link: the policy forbids that a form is answered by sending its browser to another host."""
    try:
        session = opening.opened(ask)
    except Refused as refused:
        return _refused(request, seat, refused)
    trail.record(seat.tenant, actor=seat.user.email, action=action, target=session["id"], **details)
    return render(request, "billing/leaving.html", {"address": session["url"]})


def _refused(request: HttpRequest, seat: Seat, refused: Refused) -> HttpResponse:
    message = CURES.get(refused.code, refused.message)
    said = Refused(refused.status, refused.code, message, param=refused.param, headers=refused.headers)
    return billing.page(request, seat, said)
