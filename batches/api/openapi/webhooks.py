"""Endpoints that are told of ends and of spending, /v1/webhook_endpoints: api/webhooks.py; and what is sent there."""

from typing import Any

from batches.api.openapi import components, examples
from batches.api.openapi import operations as op
from batches.api.openapi.shapes import (
    Shape,
    boolean,
    constant,
    fields,
    listed,
    maybe,
    moment,
    page,
    record,
    ref,
    text,
    whole,
)
from batches.api.paging import DEFAULT_LIMIT, MAX_LIMIT
from batches.core.webhooks import EVENTS
from batches.models import WebhookDelivery, WebhookEndpoint
from billing.spending import PERCENTS

TAG = "Webhooks"
FIND = {"webhook_not_found"}
COLUMNS = {"invalid_url", "invalid_name", "invalid_event_types"}

EVENT_TYPE = text(enum=list(EVENTS))
_ALERT = record(
    "A share of the limit of a month that is spent. GET /v1/billing has the sums.",
    id=text(pattern="^spending_"),
    month=text("UTC.", pattern="^[0-9]{4}-[0-9]{2}$", examples=["2026-11"]),
    percent=whole(enum=list(PERCENTS)),
)
DATA: Shape = {"anyOf": [record("A batch.", id=components.BATCH_ID), _ALERT]}
_COLUMNS: dict[str, Shape] = {
    "url": text("`https://`, on the public internet; docs/webhooks.md.", pattern="^https?://", maxLength=2000),
    "name": text("Printable.", maxLength=200),
    "event_types": listed(EVENT_TYPE, "All when left out.", minItems=1),
}
_OVERLAP = "keep_old_secret_active_for_24_hours"

_ENDPOINT: dict[str, Shape] = {
    "id": text(pattern="^we_"),
    "object": constant("webhook_endpoint"),
    "url": text(),
    "name": text(),
    "event_types": listed(EVENT_TYPE),
    "enabled": boolean(),
    "disabled_reason": maybe(text(enum=list(WebhookEndpoint.Disabled.values)), "`gone`: it answered 410."),
    "signing_secret_hint": maybe(text("The secret, masked.", examples=["whsec_…Lk0="]), "Null: it can't be read now."),
    "previous_secret_expires_at": maybe(moment(), "Until then two secrets are live."),
    "created_at": moment(),
    "updated_at": moment(),
}
SCHEMAS = {
    "WebhookEndpoint": record("An address that is told of the ends of batches.", **_ENDPOINT),
    "WebhookEndpointWithSecret": record(
        "An endpoint when it is made or its secret is changed.",
        **_ENDPOINT,
        signing_secret=text("Shown only this once.", pattern="^whsec_"),
    ),
    "WebhookEndpointList": page("WebhookEndpoint"),
    "DeletedWebhookEndpoint": record(
        "", id=text(), object=constant("webhook_endpoint.deleted"), deleted=constant(True)
    ),
    "WebhookTest": record(
        "What the address answered to a sample event.",
        object=constant("webhook_endpoint.test"),
        webhook_endpoint_id=text(),
        event_type=EVENT_TYPE,
        status_code=whole(minimum=100, maximum=999),
        success=constant(True),
    ),
    "WebhookDelivery": record(
        "An event, and what became of it at one endpoint.",
        id=text("The same at every endpoint that it goes to.", pattern="^evt_"),
        object=constant("webhook_delivery"),
        type=EVENT_TYPE,
        data=DATA,
        status=text(enum=list(WebhookDelivery.State.values)),
        attempts=whole(minimum=0),
        created_at=moment(),
        next_attempt_at=maybe(moment()),
        last_attempt_at=maybe(moment()),
        response_status=maybe(whole()),
        error=maybe(text("See docs/webhooks.md.")),
    ),
    "WebhookDeliveryList": page("WebhookDelivery"),
    "WebhookEventTypes": record(object=constant("list"), data=listed(EVENT_TYPE)),
    "WebhookEvent": record(
        "What is posted to an endpoint.",
        id=text("The same each time: remember those that you have handled.", pattern="^evt_"),
        object=constant("event"),
        created_at=moment("When it happened: when the batch ended."),
        type=EVENT_TYPE,
        data=DATA,
    ),
}


def _pages(about: str) -> tuple[Shape, ...]:
    return (op.limit(MAX_LIMIT, DEFAULT_LIMIT), op.query("after", text(), about))


OPERATIONS = {
    "GET /v1/webhook_endpoints": op.Operation(
        "listWebhookEndpoints",
        TAG,
        "List your endpoints, newest first",
        {200: op.gives("WebhookEndpointList", "A page of endpoints.", examples.page(examples.ENDPOINT))},
        parameters=_pages("The id of an endpoint: what is older than it."),
        codes=FIND | {"invalid_limit"},
    ),
    "POST /v1/webhook_endpoints": op.Operation(
        "createWebhookEndpoint",
        TAG,
        "Make an endpoint",
        {200: op.gives("WebhookEndpointWithSecret", "The endpoint with its secret.", examples.ENDPOINT_WITH_SECRET)},
        body=op.takes({op.JSON: fields("", ("url",), **_COLUMNS)}, {"url": examples.ENDPOINT["url"]}),
        codes=COLUMNS | {"too_many_webhooks", "secret_unreadable"},
        once=True,
    ),
    "GET /v1/webhook_endpoints/{endpoint_id}": op.Operation(
        "retrieveWebhookEndpoint",
        TAG,
        "Read an endpoint",
        {200: op.gives("WebhookEndpoint", "The endpoint.", examples.ENDPOINT)},
        codes=FIND,
    ),
    "POST /v1/webhook_endpoints/{endpoint_id}": op.Operation(
        "updateWebhookEndpoint",
        TAG,
        "Change an endpoint",
        {200: op.gives("WebhookEndpoint", "The endpoint.", examples.ENDPOINT)},
        "What is left out stays.",
        body=op.takes({op.JSON: fields(**_COLUMNS, enabled=boolean())}, {"enabled": True}, required=False),
        codes=FIND | COLUMNS | {"invalid_enabled"},
        once=True,
    ),
    "DELETE /v1/webhook_endpoints/{endpoint_id}": op.Operation(
        "deleteWebhookEndpoint",
        TAG,
        "Remove an endpoint with its log",
        {200: op.gives("DeletedWebhookEndpoint", "It is gone.", examples.DELETED_ENDPOINT)},
        codes=FIND,
    ),
    "POST /v1/webhook_endpoints/{endpoint_id}/rotate_secret": op.Operation(
        "rotateWebhookSecret",
        TAG,
        "Give it a new secret",
        {200: op.gives("WebhookEndpointWithSecret", "The endpoint with its secret.", examples.ENDPOINT_WITH_SECRET)},
        body=op.takes({op.JSON: fields(**{_OVERLAP: boolean(default=False)})}, {_OVERLAP: True}, required=False),
        codes=FIND | {"invalid_keep_old_secret", "secret_rotating"},
        once=True,
    ),
    "POST /v1/webhook_endpoints/{endpoint_id}/test": op.Operation(
        "testWebhookEndpoint",
        TAG,
        "Post a sample event there",
        {200: op.gives("WebhookTest", "It answered.", examples.WEBHOOK_TEST)},
        body=op.takes({op.JSON: fields("", ("event_type",), event_type=EVENT_TYPE)}, {"event_type": EVENTS[0]}),
        codes=FIND | {"invalid_event_types", "webhook_test_failed", "secret_unreadable"},
    ),
    "GET /v1/webhook_endpoints/{endpoint_id}/deliveries": op.Operation(
        "listWebhookDeliveries",
        TAG,
        "What was sent there, newest first",
        {200: op.gives("WebhookDeliveryList", "A page of deliveries.", examples.page(examples.DELIVERY))},
        parameters=_pages("The id of an event: what is older than it."),
        codes=FIND | {"delivery_not_found", "invalid_limit"},
    ),
    "POST /v1/webhook_endpoints/{endpoint_id}/deliveries/{delivery_id}/replay": op.Operation(
        "replayWebhookDelivery",
        TAG,
        "Send an event again",
        {200: op.gives("WebhookDelivery", "The delivery, waiting.", examples.DELIVERY)},
        codes=FIND | {"delivery_not_found", "webhook_disabled", "delivery_in_progress"},
        once=True,
    ),
    "GET /v1/webhook_event_types": op.Operation(
        "listWebhookEventTypes",
        TAG,
        "The types of events",
        {200: op.gives("WebhookEventTypes", "All of them.", {"object": "list", "data": list(EVENTS)})},
    ),
}


def sent() -> dict[str, Any]:
    """What the service posts to an endpoint."""
    about = "Signed as Standard Webhooks says: verify the body, then parse it. Any 2xx takes it; a 410 ends them all."
    headers = {
        "webhook-id": "The event's id.",
        "webhook-timestamp": "Unix seconds of this attempt.",
        "webhook-signature": "`v1,` and base64 of HMAC-SHA256; two with a space between while two secrets are live.",
    }
    parameters = [op.header(name, text) | {"required": True} for name, text in headers.items()]
    media = {"schema": ref("WebhookEvent"), "examples": {"example": {"value": examples.EVENT}}}
    post = {
        "operationId": "batchEnded",
        "tags": [TAG],
        "summary": "A batch has ended, or much of a limit is spent",
        "description": about,
        "security": [],
        "parameters": parameters,
        "requestBody": {"required": True, "content": {op.JSON: media}},
        "responses": {"2XX": {"description": "Taken."}},
    }
    return {"batchEnded": {"post": post}}
