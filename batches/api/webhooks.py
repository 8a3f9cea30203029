"""Webhooks: the addresses of OpenAI's SDK (`client.webhooks`), and beside them what became of each delivery."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from rest_framework.decorators import api_view, parser_classes
from rest_framework.request import Request
from rest_framework.response import Response

from batches.api import fields, paging, repeats
from batches.api.serializers import unix
from batches.core import webhooks
from batches.idempotency import Attempt
from batches.models import WebhookDelivery, WebhookEndpoint
from batches.webhooks import endpoints as kept
from batches.webhooks import wanted
from tenants.authentication import key_of, tenant_of
from tenants.errors import Refused

OVERLAP = "keep_old_secret_active_for_24_hours"


@api_view(["GET", "HEAD"])
def event_types(request: Request) -> Response:
    """What can be told of."""
    fields.query(request)
    return Response({"object": "list", "data": list(webhooks.EVENTS)})


@api_view(["GET", "HEAD", "POST"])
@parser_classes(fields.PARSERS)
def endpoints(request: Request) -> Response:
    """List the tenant's endpoints, newest first; or make one, whose secret is shown this once."""
    if request.method in ("GET", "HEAD"):
        return _page(request, kept.of(tenant_of(request)), _shown, lambda after: _endpoint(request, after))
    return _create(request)


@api_view(["GET", "HEAD", "POST", "DELETE"])
@parser_classes(fields.PARSERS)
def endpoint(request: Request, endpoint_id: str) -> Response:
    """One endpoint; or change it; or remove it with its log."""
    fields.query(request)
    found = _endpoint(request, endpoint_id)
    if request.method == "DELETE":
        kept.delete(found, _actor(request))
        return Response({"id": endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True})
    return _update(request, found) if request.method == "POST" else Response(_shown(found))


@api_view(["POST"])
@parser_classes(fields.PARSERS)
@repeats.once(lambda request, endpoint_id: _with_secret(_endpoint(request, endpoint_id)))
def rotate_secret(request: Request, attempt: Attempt, endpoint_id: str) -> Response:
    """Give it a new secret, shown this once."""
    fields.query(request)
    found = _endpoint(request, endpoint_id)
    overlap = fields.body(request, OVERLAP).get(OVERLAP, False)
    wrong = Refused(400, "invalid_keep_old_secret", f"{OVERLAP} must be true or false.", param=OVERLAP)
    keep = wanted.flag(overlap, wrong)
    attempt.name(keep)
    with attempt.acting(endpoint_id):
        secret = kept.rotate(found, _actor(request), keep)
    shown = _shown(_endpoint(request, endpoint_id))
    return Response(shown | {"signing_secret": secret, "signing_secret_hint": webhooks.hint(secret)})


@api_view(["POST"])
@parser_classes(fields.PARSERS)
def test(request: Request, endpoint_id: str) -> Response:
    """Post a sample event there, and say what it answered."""
    fields.query(request)
    found = _endpoint(request, endpoint_id)
    kind = fields.body(request, "event_type").get("event_type")
    (known,) = wanted.event_types([kind], "event_type")
    outcome = kept.try_out(found, known)
    if outcome.status is None:
        raise Refused(400, "webhook_test_failed", f"There was no answer: {outcome.error}.")
    shown = {"object": "webhook_endpoint.test", "webhook_endpoint_id": found.public_id, "event_type": known}
    return Response(shown | {"status_code": outcome.status, "success": True})


@api_view(["GET", "HEAD"])
def deliveries(request: Request, endpoint_id: str) -> Response:
    """What was sent there, newest first, and what became of it."""
    found = _endpoint(request, endpoint_id)
    return _page(request, found.deliveries.all(), _delivered, lambda after: kept.delivery(found, after))


@api_view(["POST"])
@parser_classes(fields.PARSERS)
def replay(request: Request, endpoint_id: str, delivery_id: str) -> Response:
    """Send an event again, with the id that it had."""
    fields.query(request)
    fields.body(request)
    found = _endpoint(request, endpoint_id)
    return _replay(request, found, delivery_id)


@repeats.once(lambda request, endpoint_id: _with_secret(_endpoint(request, endpoint_id)))
def _create(request: Request, attempt: Attempt) -> Response:
    fields.query(request)
    columns = wanted.columns(fields.body(request, *wanted.COLUMNS))
    if "url" not in columns:
        raise Refused(400, "invalid_url", "Send the url that events are posted to.", param="url")
    columns = {"event_types": " ".join(webhooks.EVENTS)} | columns
    attempt.name(columns)
    return Response(_with_secret(kept.create(attempt, _actor(request), columns)))


@repeats.once(lambda request, endpoint_id: _shown(_endpoint(request, endpoint_id)))
def _update(request: Request, attempt: Attempt, found: WebhookEndpoint) -> Response:
    columns = wanted.columns(fields.body(request, *wanted.COLUMNS, "enabled"))
    attempt.name(columns)
    with attempt.acting(found.public_id):
        kept.update(found, _actor(request), columns)
    return Response(_shown(_endpoint(request, found.public_id)))


def _replay(request: Request, found: WebhookEndpoint, delivery_id: str) -> Response:
    @repeats.once(lambda _, event_id: _delivered(kept.delivery(found, event_id)))
    def answer(request: Request, attempt: Attempt) -> Response:
        delivery = kept.delivery(found, delivery_id)
        attempt.name()
        with attempt.acting(delivery_id):
            kept.replay(found, _actor(request), delivery)
        return Response(_delivered(kept.delivery(found, delivery_id)))

    return answer(request)


def _shown(found: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": found.public_id,
        "object": "webhook_endpoint",
        "url": found.url,
        "name": found.name,
        "event_types": found.event_types.split(),
        "enabled": not found.disabled_reason,
        "disabled_reason": found.disabled_reason or None,
        "signing_secret_hint": kept.hint(found),
        "previous_secret_expires_at": unix(found.previous_until),
        "created_at": unix(found.created_at),
        "updated_at": unix(found.updated_at),
    }


def _with_secret(found: WebhookEndpoint) -> dict[str, Any]:
    """For who makes it, and who sends the making again since no answer came."""
    return _shown(found) | {"signing_secret": found.secret.open()}


def _delivered(delivery: WebhookDelivery) -> dict[str, Any]:
    return {
        "id": delivery.event_id,
        "object": "webhook_delivery",
        "type": delivery.event_type,
        "data": webhooks.data(delivery.event_type, delivery.subject),
        "status": delivery.state,
        "attempts": delivery.attempts,
        "created_at": unix(delivery.created_at),
        "next_attempt_at": unix(delivery.next_at),
        "last_attempt_at": unix(delivery.last_at),
        "response_status": delivery.last_status,
        "error": delivery.last_error or None,
    }


def _page(
    request: Request, rows: QuerySet[Any], shown: Callable[[Any], dict[str, Any]], named: Callable[[str], Any]
) -> Response:
    """A list, newest first. `named` finds the row of `after`."""
    fields.query(request, "limit", "after")
    limit = paging.limit(request)
    rows = rows.order_by("-pk")
    if after := request.query_params.get("after"):
        rows = rows.filter(pk__lt=named(after).pk)
    return paging.answer(rows, limit, shown)


def _endpoint(request: Request, endpoint_id: str) -> WebhookEndpoint:
    return kept.named(tenant_of(request), endpoint_id)


def _actor(request: Request) -> str:
    """Who the trail says it was: the key."""
    return key_of(request).prefix
