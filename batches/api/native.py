"""The native surface: /v1/batch. One function a route; every tenant's object comes through `finding`.

A POST is given its Attempt by `once`: what is sent again is answered, not done again.
"""

from django.db import DatabaseError
from django.db.models import Q
from django.http import HttpResponseBase
from rest_framework.decorators import api_view, parser_classes
from rest_framework.parsers import FormParser, JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from batches import erasing, intake, lifecycle, retries, uploads
from batches.api import fields, outputs, paging, repeats, serializers
from batches.api.finding import batch as _batch
from batches.api.finding import of_tenant as _of_tenant
from batches.core import states
from batches.core.states import Status
from batches.idempotency import Attempt
from tenants.authentication import key_of
from tenants.errors import Refused

FIELDS = {"endpoint", "metadata", "on_invalid_line", *fields.CAPS}  # of the form, beside the file
QUERY = {"limit", "after", "status"}
once = repeats.once(lambda request, batch_id: serializers.native(_batch(request, batch_id)))


@api_view(["GET", "HEAD", "POST"])
@parser_classes([MultiPartParser])
def batches(request: Request) -> Response:
    """List the tenant's batches, newest first; or submit one."""
    return _list(request) if request.method in ("GET", "HEAD") else _submit(request)


@api_view(["GET", "HEAD", "DELETE"])
def batch(request: Request, batch_id: str) -> Response:
    """One batch; or delete its data, once it has ended."""
    fields.query(request)
    if request.method == "DELETE":
        erasing.erase(_batch(request, batch_id), key_of(request).prefix)
    return Response(serializers.native(_batch(request, batch_id)))


@api_view(["GET", "HEAD"])
def output(request: Request, batch_id: str) -> HttpResponseBase:
    """Every line's result in input order; with ?partial=true what is committed so far, with ?merged=true a retry's
    original in one with it."""
    found = _batch(request, batch_id)
    return outputs.output(request, found, request.query_params)


@api_view(["GET", "HEAD"])
def errors(request: Request, batch_id: str) -> HttpResponseBase:
    """The failed lines alone; empty when there are none."""
    fields.query(request)
    return outputs.errors(request, _batch(request, batch_id))


@api_view(["POST"])
@parser_classes([JSONParser, FormParser, MultiPartParser])
@once
def cancel(request: Request, attempt: Attempt, batch_id: str) -> Response:
    """Stop sending; what is finished or in flight is kept."""
    fields.query(request)
    found = _batch(request, batch_id)
    attempt.name()
    with attempt.acting(batch_id):
        lifecycle.cancel(found)
    return Response(serializers.native(_batch(request, batch_id)))


@api_view(["POST"])
@parser_classes(fields.PARSERS)
@once
def resume(request: Request, attempt: Attempt, batch_id: str) -> Response:
    """Go on with a paused batch, with new caps where they are sent."""
    fields.query(request)
    new_caps = fields.read_caps(fields.body(request, *fields.CAPS))
    found = _batch(request, batch_id)
    attempt.name(new_caps)
    with attempt.acting(batch_id):
        lifecycle.resume(found, **new_caps)
    return Response(serializers.native(_batch(request, batch_id)))


@api_view(["POST"])
@parser_classes(fields.PARSERS)
@once
def retry(request: Request, attempt: Attempt, batch_id: str) -> Response:
    """A new batch of the lines that an ended one did not deliver, or of some of them, with caps of its own."""
    fields.query(request)
    asked = fields.body(request, *fields.CAPS, "error_codes")
    caps, some = fields.read_caps(asked), retries.read_causes(asked.get("error_codes"))
    found = _batch(request, batch_id)
    attempt.name(caps, *([sorted(some)] if some else []))
    return Response(serializers.native(serializers.made(retries.retry(found, attempt, some, **caps))))


@once
def _submit(request: Request, attempt: Attempt) -> Response:
    fields.query(request)
    if not attempt.again:
        intake.check_room(attempt.tenant)
    http = request._request
    uploads.check_length(http)
    if not attempt.again:
        uploads.check_room(http, attempt.tenant)
    upload = uploads.receive(http)
    try:
        fields.only(http.POST, FIELDS)
        endpoint = intake.read_endpoint(http.POST.get("endpoint"))
        metadata = intake.read_metadata(http.POST.get("metadata"))
        columns = fields.read_caps(http.POST)
        columns["on_invalid_line"] = intake.read_on_invalid_line(http.POST.get("on_invalid_line"))
        stored = upload.complete()
        attempt.name(stored.sha256, endpoint, metadata, columns)
        submitted = intake.submit(attempt, stored, endpoint, metadata, **columns)
    except DatabaseError:
        raise  # the batch may be there after all: an object that nobody names is swept a day later
    except BaseException:
        upload.discard()
        raise
    return Response(serializers.native(serializers.made(submitted)))


def _list(request: Request) -> Response:
    fields.query(request, *QUERY)
    limit = paging.limit(request)
    rows = _of_tenant(request).order_by("-pk")
    if (status := request.query_params.get("status")) is not None:
        rows = rows.filter(_shown_as(status))
    if after := request.query_params.get("after"):
        rows = rows.filter(pk__lt=_batch(request, after, "after").pk)
    return paging.answer(rows, limit, serializers.native)


def _shown_as(status: str) -> Q:
    """Batches that the native surface shows in `status`."""
    stored = [(state, cancelled) for state in Status for cancelled in (True, False)]
    found = [(state, cancelled) for state, cancelled in stored if states.shown(state, cancelled) == status]
    if not found:
        known = ", ".join(sorted(set(states.NATIVE.values())))
        raise Refused(400, "invalid_status", f"status must be one of {known}.", param="status")
    query = Q()
    for state, cancelled in found:
        query |= Q(status=state, cancelling_at__isnull=not cancelled)
    return query
