"""What a tenant asks about itself: the models it can reach, what it has used, and its limits."""

import re
from datetime import UTC, date
from typing import Any

from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from batches import enqueued, intake, metering, uploads, validation
from batches.api import fields
from batches.api.serializers import unix
from batches.core import requests
from billing import money, prices
from billing.models import Price
from tenants import clock, throttling
from tenants.authentication import allowance_of, tenant_of
from tenants.errors import Refused

SHOWN_DAYS = 30  # of usage, where `from` is not sent
SUCH_A_DAY = "must be a day such as 2026-01-31."
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@api_view(["GET", "HEAD"])
def models(request: Request) -> Response:
    """The models that this tenant can reach."""
    fields.query(request)
    return Response({"object": "list", "data": _models(request)})


@api_view(["GET", "HEAD"])
def model(request: Request, model_id: str) -> Response:
    """One of them."""
    fields.query(request)
    found = next((shown for shown in _models(request) if shown["id"] == model_id), None)
    if found is None:
        raise Refused(404, "model_not_found", "There is no model of this name here for you.", param="model")
    return Response(found)


def _models(request: Request) -> list[dict[str, Any]]:
    tenant = tenant_of(request)
    found = validation.reachable_upstreams(tenant.pk)
    now = clock.now()
    priced, own = prices.in_force(found, now), prices.own_discount(tenant.pk, now)
    return [
        {
            "id": name,
            "object": "model",
            "created": min(unix(row.created_at) or 0 for row in rows),
            "owned_by": tenant.name if rows[0].tenant_id else "system",
            "prices": _prices(priced.get(name), own),
            "endpoints": requests.ENDPOINTS,
        }
        for name, rows in sorted(found.items())
    ]


def _prices(price: Price | None, own: int | None) -> dict[str, Any] | None:
    """USD per million tokens, exactly: at the standard price, and as a batch of this tenant pays it."""
    if price is None:
        return None
    rates = prices.rates(price, own)
    kinds = ("input", "cached_input", "output")
    return {
        "unit": "usd_per_million_tokens",
        "standard": {name: money.usd(getattr(price, name) * money.MILLION) for name in kinds},
        "batch": {name: money.usd(getattr(rates, name)) for name in kinds},
        "discount": money.share([rates.discount]),
    }


@api_view(["GET", "HEAD"])
def usage(request: Request) -> Response:
    """What the tenant's lines took, by model, day or key."""
    fields.query(request, "from", "to", "group_by")
    first, last = _span(request)
    group_by = request.query_params.get("group_by", "day")
    if group_by not in metering.GROUPS:
        known = ", ".join(metering.GROUPS)
        raise Refused(400, "invalid_group_by", f"group_by must be one of {known}.", param="group_by")
    groups = metering.report(tenant_of(request).pk, first, last, group_by)
    totals = {name: sum(taken[name] for _, taken in groups) for name in metering.MEASURES}
    return Response(
        {
            "object": "list",
            "data": [{group_by: shown, **_taken(taken)} for shown, taken in groups],
            "totals": _taken(totals),
            "from": first.isoformat(),
            "to": last.isoformat(),
            "group_by": group_by,
        }
    )


def _span(request: Request) -> tuple[date, date]:
    """The first and the last day (UTC) asked for."""
    last = _day(request, "to", Refused(400, "invalid_to", f"to {SUCH_A_DAY}", param="to"))
    last = last or clock.now().astimezone(UTC).date()
    first = _day(request, "from", Refused(400, "invalid_from", f"from {SUCH_A_DAY}", param="from"))
    first = first or date.fromordinal(max(1, last.toordinal() - SHOWN_DAYS + 1))
    if first > last:
        raise Refused(400, "invalid_from", "from is a day after to.", param="from")
    return first, last


def _day(request: Request, name: str, refused: Refused) -> date | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return date.fromisoformat(text if _DAY.fullmatch(text) else "")
    except ValueError:
        raise refused from None


def _taken(taken: dict[str, int]) -> dict[str, Any]:
    return {
        "requests": {"completed": taken["completed"], "failed": taken["failed"]},
        "input_tokens": taken["input_tokens"],
        "cached_tokens": taken["cached_tokens"],
        "output_tokens": taken["output_tokens"],
        "total_tokens": taken["input_tokens"] + taken["output_tokens"],
        "cost": {"usd": money.usd(taken["cost"]), "currency": "usd"},
    }


@api_view(["GET", "HEAD"])
def limits(request: Request) -> Response:
    """What the tenant may have, and what is left of it."""
    fields.query(request)
    tenant, rate = tenant_of(request), allowance_of(request)
    return Response(
        {
            "object": "limits",
            "plan": tenant.plan,
            "active_batches": _left(tenant.active_batch_limit, intake.active(tenant.pk).count()),
            "enqueued_tokens": _left(tenant.enqueued_token_limit, enqueued.tokens(tenant.pk)),
            "requests_per_minute": {
                "limit": rate.limit,
                "remaining": rate.remaining,
                "reset": throttling.duration(rate.reset),
            },
            "file": {"bytes": uploads.MAX_BYTES, "lines": uploads.MAX_LINES},
            "line": {"bytes": requests.MAX_LINE, "nesting": requests.MAX_DEPTH},
            "custom_id": {"characters": requests.MAX_CUSTOM_ID},
            "metadata": {
                "pairs": intake.MAX_METADATA,
                "key_characters": intake.MAX_METADATA_KEY,
                "value_characters": intake.MAX_METADATA_VALUE,
            },
            "batch": {"seconds": int(intake.WINDOW.total_seconds())},
        }
    )


def _left(limit: int | None, used: int) -> dict[str, int | None]:
    return {"limit": limit, "used": used, "remaining": None if limit is None else max(limit - used, 0)}
