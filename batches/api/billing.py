"""What a tenant has left to spend, and what it has spent."""

from typing import Any

from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from batches import reserving
from batches.api import fields
from batches.api.serializers import unix
from batches.reserving import Running
from billing import ledger, money
from billing.models import Customer
from tenants import clock
from tenants.authentication import tenant_of


@api_view(["GET", "HEAD"])
def billing(request: Request) -> Response:
    """Credits, this month, and payment."""
    fields.query(request)
    tenant = tenant_of(request).pk
    customer = Customer.objects.filter(pk=tenant).first() or Customer()
    running = reserving.running(tenant)
    return Response(
        {
            "object": "billing",
            "currency": "usd",
            "prepaid": customer.prepaid,
            "credits": _credits(ledger.balance(tenant, ledger.Account.CREDITS), running),
            "month": _month(tenant, customer, running),
            "payment": {"can_pay": customer.can_pay, "past_due_since": unix(customer.past_due_since)},
        }
    )


def _credits(balance: int, running: Running) -> dict[str, str]:
    return {
        "balance_usd": money.usd(balance),
        "reserved_usd": money.usd(running.held),
        "available_usd": money.usd(max(balance - running.held, 0)),
    }


def _month(tenant: int, customer: Customer, running: Running) -> dict[str, Any]:
    month, limit = clock.month(), customer.monthly_limit
    charged = ledger.charged_since(tenant, month)
    return {
        "month": f"{month:%Y-%m}",
        "charged_usd": money.usd(charged),
        "running_usd": money.usd(running.cost),
        "reserved_usd": money.usd(running.held),
        "limit_usd": None if limit is None else money.usd(limit),
        "available_usd": None if limit is None else money.usd(max(limit - charged - running.held, 0)),
        "alerted_percent": customer.alerted_percent if customer.alerted_month == month else 0,
    }
