"""What a tenant has left to spend, and what it has spent."""

from typing import Any

from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from batches import standing
from batches.api import fields
from batches.api.serializers import unix
from batches.standing import Standing
from billing import money
from tenants.authentication import tenant_of


@api_view(["GET", "HEAD"])
def billing(request: Request) -> Response:
    """Credits, this month, and payment."""
    fields.query(request)
    stands = standing.of(tenant_of(request).pk)
    customer = stands.customer
    return Response(
        {
            "object": "billing",
            "currency": "usd",
            "prepaid": customer.prepaid,
            "credits": {
                "balance_usd": money.usd(stands.balance),
                "reserved_usd": money.usd(stands.running.held),
                "available_usd": money.usd(stands.credits_left),
            },
            "month": _month(stands),
            "payment": {"can_pay": customer.can_pay, "past_due_since": unix(customer.past_due_since)},
        }
    )


def _month(stands: Standing) -> dict[str, Any]:
    limit, left = stands.customer.monthly_limit, stands.limit_left
    return {
        "month": f"{stands.month:%Y-%m}",
        "charged_usd": money.usd(stands.charged),
        "running_usd": money.usd(stands.running.cost),
        "reserved_usd": money.usd(stands.running.held),
        "limit_usd": None if limit is None else money.usd(limit),
        "available_usd": None if left is None else money.usd(left),
        "alerted_percent": stands.alerted,
    }
