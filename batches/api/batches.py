"""The OpenAI surface: /v1/batches. One function a route; what it shows is serializers.openai's."""

from typing import Any

from rest_framework.decorators import api_view, parser_classes
from rest_framework.request import Request
from rest_framework.response import Response

from batches import intake, lifecycle
from batches.api import fields, finding, paging, repeats, serializers
from batches.idempotency import Attempt
from tenants.errors import Refused

NEEDED = ("input_file_id", "endpoint")
FIELDS = (*NEEDED, "completion_window", "metadata", "output_expires_after", "on_invalid_line", *fields.CAPS)
once = repeats.once(lambda request, batch_id: serializers.openai(finding.batch(request, batch_id)))


@api_view(["GET", "HEAD", "POST"])
@parser_classes([fields.JSONFields])
def batches(request: Request) -> Response:
    """List the tenant's batches, newest first; or create one of an uploaded file."""
    return _list(request) if request.method in ("GET", "HEAD") else _create(request)


@api_view(["GET", "HEAD"])
def batch(request: Request, batch_id: str) -> Response:
    """One batch."""
    fields.query(request)
    return Response(serializers.openai(finding.batch(request, batch_id)))


@api_view(["POST"])
@parser_classes(fields.PARSERS)
@once
def cancel(request: Request, attempt: Attempt, batch_id: str) -> Response:
    """Stop sending; what is finished or in flight is kept."""
    fields.query(request)
    found = finding.batch(request, batch_id)
    attempt.name()
    with attempt.acting(found.public_id):
        lifecycle.cancel(found)
    return Response(serializers.openai(finding.batch(request, batch_id)))


@once
def _create(request: Request, attempt: Attempt) -> Response:
    fields.query(request)
    given = fields.body(request, *FIELDS)
    endpoint, metadata, columns = read(given)
    attempt.name(given["input_file_id"], endpoint, metadata, columns)
    if not attempt.again:
        intake.check_room(attempt.tenant)
    made = intake.submit(attempt, given["input_file_id"], endpoint, metadata, **columns)
    return Response(serializers.openai(serializers.made(made)))


def read(given: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Endpoint, metadata and other columns that FIELDS make. Raises Refused 400."""
    for name in NEEDED:
        if not isinstance(given.get(name), str):
            raise Refused(400, "missing_parameter", f"Send {name}, a string.", param=name)
    if given.get("completion_window", "24h") != "24h":
        raise Refused(400, "invalid_completion_window", "completion_window must be 24h.", param="completion_window")
    metadata = fields.plain(given.get("metadata"), "metadata")
    metadata = intake.check_metadata({} if metadata is None else metadata)
    return intake.read_endpoint(given["endpoint"]), metadata, _columns(given)


def _columns(given: dict[str, Any]) -> dict[str, Any]:
    """What is not in OpenAI's own contract but for output_expires_after."""
    columns = fields.read_caps(given)
    columns["on_invalid_line"] = intake.read_on_invalid_line(given.get("on_invalid_line"))
    expiry = fields.plain(given.get("output_expires_after"), "output_expires_after")
    if expiry is not None:
        columns["output_expires_after"] = fields.read_expiry(expiry, "output_expires_after")
    return columns


def _list(request: Request) -> Response:
    fields.query(request, "limit", "after")
    limit = paging.limit(request)
    rows = finding.of_tenant(request).order_by("-pk")
    if after := request.query_params.get("after"):
        rows = rows.filter(pk__lt=finding.batch(request, after, "after").pk)
    return paging.answer(rows, limit, serializers.openai)
