"""What a tenant asks about itself: the models it can reach, what it has used, and its limits."""

from typing import Any

from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from batches import catalogue, enqueued, intake, keeping, metering, uploads
from batches.api import fields
from batches.api.serializers import unix
from batches.catalogue import Offer
from batches.core import requests
from billing import money
from tenants import throttling
from tenants.authentication import allowance_of, tenant_of
from tenants.errors import Refused


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
    return [
        {
            "id": offer.model,
            "object": "model",
            "created": unix(offer.since) or 0,
            "owned_by": tenant.name if offer.own else "system",
            "prices": _prices(offer),
            "endpoints": requests.ENDPOINTS,
        }
        for offer in catalogue.offers(tenant.pk)
    ]


def _prices(offer: Offer) -> dict[str, Any] | None:
    """USD per million tokens, exactly: at the standard price, and as a batch of this tenant pays it."""
    if offer.standard is None or offer.batch is None:
        return None
    shown = {"standard": catalogue.standard(offer.standard), "batch": offer.batch}
    kinds = ("input", "cached_input", "output")
    return {
        "unit": "usd_per_million_tokens",
        **{name: {kind: money.usd(getattr(rates, kind)) for kind in kinds} for name, rates in shown.items()},
        "discount": money.share([offer.batch.discount]),
    }


@api_view(["GET", "HEAD"])
def usage(request: Request) -> Response:
    """What the tenant's lines took, by model, day or key."""
    fields.query(request, "from", "to", "group_by")
    first, last = metering.span(request.query_params.get("from"), request.query_params.get("to"))
    group_by = request.query_params.get("group_by", "day")
    if group_by not in metering.GROUPS:
        known = ", ".join(metering.GROUPS)
        raise Refused(400, "invalid_group_by", f"group_by must be one of {known}.", param="group_by")
    groups = list(metering.report(tenant_of(request).pk, first, last, group_by))
    totals = metering.total(taken for _, taken in groups)
    return Response(
        {
            "object": "list",
            "data": [{**shown, **_taken(taken)} for shown, taken in groups],
            "totals": _taken(totals),
            "from": first.isoformat(),
            "to": last.isoformat(),
            "group_by": group_by,
        }
    )


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
            "stored_bytes": _left(tenant.stored_limit, keeping.stored(tenant.pk)),
            "retention": {"days": tenant.retention.days},
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
