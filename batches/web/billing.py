"""How a tenant stands with its operator: this month, credits, the limit, invoices, the way to pay; and its prices."""

from typing import Any, NamedTuple

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from batches import catalogue, standing
from batches.catalogue import Offer
from batches.standing import Standing
from batches.web.figures import dollars, percent
from billing import invoicing, money, spending, wording
from billing.models import Invoice
from billing.stripe import client
from tenants import clock
from tenants.errors import Refused
from tenants.web.access import Seat, seat

PAGE = 12  # invoices: a year
LOOKS = {Invoice.Status.OPEN: "waiting", Invoice.Status.PAID: "good", Invoice.Status.VOID: "still"}
RATES = ("input", "cached_input", "output")
# Said to whoever comes back from Stripe: what happened there is known when Stripe's webhook has told it, not before.
BACK = {
    "method": "You are back from Stripe. A payment method that you left there shows here as soon as Stripe has told"
    " us, mostly within a minute: load this page again then.",
    "credits": "You are back from Stripe. Credits show here as soon as Stripe has confirmed the payment: a card's"
    " mostly within a minute, a bank transfer's in days. There is no need to pay again meanwhile.",
    "cancelled": "You left Stripe's page. What was not finished there changes nothing, and is not charged.",
    "portal": "You are back from Stripe. What you changed there shows here as soon as Stripe has told us.",
}


class Line(NamedTuple):
    """An invoice in the list."""

    invoice: Invoice
    month: str
    status: str
    look: str
    total: str
    due: str


class Limit(NamedTuple):
    """The limit of the month, as it is drawn: shares are tenths of a percent, of at most the whole."""

    limit: str
    left: str
    spent: str
    charged_share: int
    held_share: int
    alerts: list[tuple[int, bool]]


@require_safe
@seat()
def billing(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Everything on one page; older invoices a year at a time."""
    return page(request, seat)


def page(request: HttpRequest, seat: Seat, refused: Refused | None = None) -> HttpResponse:
    """The page, with what was wrong with a form of it."""
    rows = invoices_of(seat)
    if after := request.GET.get("after"):
        rows = rows.filter(month__lt=invoicing.found(rows, after, "after").month)
    found = list(rows[: PAGE + 1])
    context: dict[str, Any] = {
        "after": after,
        "invoices": [_line(invoice) for invoice in found[:PAGE]],
        "next": found[PAGE - 1].public_id if len(found) > PAGE else "",
    }
    if not after:
        stands = standing.of(seat.tenant.pk)
        latest = found[0].month if found else None
        context |= _standing(stands)
        context["uninvoiced"] = dollars(invoicing.uninvoiced(seat.tenant.pk, stands.month, latest))
    context |= {
        "refused": refused,
        "amount": request.POST.get("amount_usd", ""),
        "back": BACK.get(request.GET.get("back", ""), ""),
        "takes_payments": client.configured(),
    }
    return render(request, "billing/billing.html", context, status=refused.status if refused else 200)


def invoices_of(seat: Seat) -> QuerySet[Invoice]:
    """The tenant's, the newest month first."""
    return Invoice.objects.filter(tenant=seat.tenant).order_by("-month")


def _line(invoice: Invoice) -> Line:
    status, look = wording.status(invoice), LOOKS[Invoice.Status(invoice.status)]
    total = dollars(invoice.cents * money.CENT)
    return Line(invoice, f"{invoice.month:%B %Y}", status, look, total, dollars(invoice.due))


def _standing(stands: Standing) -> dict[str, Any]:
    return {
        "customer": stands.customer,
        "month": f"{stands.month:%B %Y}",
        "closes": clock.following(stands.month),
        "charged": dollars(stands.charged),
        "running": dollars(stands.running.cost),
        "reserved": dollars(stands.running.held),
        "balance": dollars(stands.balance),
        "credits_left": dollars(stands.credits_left),
        "limit": _limit(stands),
    }


def _limit(stands: Standing) -> Limit | None:
    limit, left = stands.customer.monthly_limit, stands.limit_left
    if limit is None or left is None:
        return None
    charged = min(stands.charged, limit) * 1000 // limit if limit else 1000
    held = min(stands.running.held * 1000 // limit, 1000 - charged) if limit else 0
    spent = percent(stands.charged + stands.running.cost, limit) or "100.0%"
    alerts = [(share, share <= stands.alerted) for share in spending.PERCENTS]
    return Limit(dollars(limit), dollars(left), spent, max(charged, 0), max(held, 0), alerts)


@require_safe
@seat()
def prices(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The models that the tenant can reach, and what they cost it."""
    rows = [_offer(offer) for offer in catalogue.offers(seat.tenant.pk)]
    return render(request, "billing/prices.html", {"rows": rows})


def _offer(offer: Offer) -> dict[str, Any]:
    if offer.standard is None or offer.batch is None:
        return {"model": offer.model, "own": offer.own}
    pairs = zip(catalogue.standard(offer.standard), offer.batch, strict=True)
    amounts = dict(zip(RATES, ((dollars(usual), dollars(batch)) for usual, batch in pairs), strict=False))
    return {"model": offer.model, "own": offer.own, "discount": offer.batch.discount, **amounts}
