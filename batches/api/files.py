"""The OpenAI surface: /v1/files. One function a route."""

from typing import Any

from django.db import DatabaseError
from django.db.models import Q
from django.http import HttpRequest, HttpResponseBase
from rest_framework.decorators import api_view, parser_classes
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from batches import files as stored_files
from batches import uploads
from batches.api import downloads, fields, paging, repeats, serializers
from batches.idempotency import Attempt
from batches.models import File
from tenants.authentication import tenant_of
from tenants.errors import Refused

FIELDS = {"purpose", "expires_after[anchor]", "expires_after[seconds]"}
SHOWN = (File.Purpose.BATCH, File.Purpose.BATCH_OUTPUT)


@api_view(["GET", "HEAD", "POST"])
@parser_classes([MultiPartParser])
def files(request: Request) -> Response:
    """List the tenant's files; or upload one."""
    return _list(request) if request.method in ("GET", "HEAD") else _upload(request)


@api_view(["GET", "HEAD", "DELETE"])
def file(request: Request, file_id: str) -> Response:
    """One file's data; or delete it."""
    fields.query(request)
    if request.method == "DELETE":
        gone = stored_files.delete(tenant_of(request), file_id)
        return Response({"id": gone.public_id, "object": "file", "deleted": True})
    return Response(serializers.file(stored_files.find(tenant_of(request), file_id)))


@api_view(["GET", "HEAD"])
def content(request: Request, file_id: str) -> HttpResponseBase:
    """The file's bytes; of a running batch's output the lines delivered so far."""
    fields.query(request)
    found = stored_files.find(tenant_of(request), file_id)
    running = stored_files.batch_of(found)
    if running is not None:
        return downloads.partial(running, delivered_only=True)
    found.refresh_from_db()  # its batch may have ended meanwhile
    return downloads.send(request, found)


@repeats.once(lambda request, file_id: serializers.file(stored_files.find(tenant_of(request), file_id)))
def _upload(request: Request, attempt: Attempt) -> Response:
    fields.query(request)
    http = request._request
    uploads.check_length(http)
    if not attempt.again:
        uploads.check_room(http, attempt.tenant)
    upload = uploads.receive(http, many_lines=True)
    try:
        keep, stored = _read(http), upload.complete()
        attempt.name(stored.sha256, stored.filename, keep)
        made = stored_files.store(attempt, stored, keep)
    except DatabaseError:
        raise  # the row may be there after all: an object that nobody names is swept a day later
    except BaseException:
        upload.discard()
        raise
    return Response(serializers.file(made))


def _read(http: HttpRequest) -> int | None:
    """The form's other fields; how many seconds the file is kept."""
    fields.only(http.POST, FIELDS)
    if http.POST.get("purpose") != File.Purpose.BATCH:
        raise Refused(400, "invalid_purpose", "purpose must be batch: no other is taken here.", param="purpose")
    given = {name: http.POST.get(f"expires_after[{name}]") for name in ("anchor", "seconds")}
    if not any(given.values()):
        return None
    return fields.read_expiry(given, "expires_after")


def _list(request: Request) -> Response:
    fields.query(request, "after", "limit", "order", "purpose")
    limit = paging.limit(request, paging.MAX_FILES, paging.MAX_FILES)
    query = request.query_params
    rows = stored_files.of_tenant(tenant_of(request)).exclude(storage_key="")
    rows = rows.filter(purpose__in=_purposes(query.get("purpose")))
    newest_first = _newest_first(query.get("order"))
    if after := query.get("after"):
        rows = rows.filter(_beyond(stored_files.place(tenant_of(request), after), newest_first))
    order = ("-created_at", "-pk") if newest_first else ("created_at", "pk")
    return paging.answer(rows.order_by(*order), limit, serializers.file)


def _beyond(file: File, newest_first: bool) -> Q:
    """An output's row is older than the output: rows alone are in no order."""
    side = "lt" if newest_first else "gt"
    same_moment = Q(created_at=file.created_at, **{f"pk__{side}": file.pk})
    return Q(**{f"created_at__{side}": file.created_at}) | same_moment


def _purposes(value: str | None) -> tuple[Any, ...]:
    if value is None:
        return SHOWN
    if value not in SHOWN:
        known = " or ".join(SHOWN)
        raise Refused(400, "invalid_purpose", f"purpose must be {known}.", param="purpose")
    return (value,)


def _newest_first(value: str | None) -> bool:
    if value not in (None, "asc", "desc"):
        raise Refused(400, "invalid_order", "order must be asc or desc.", param="order")
    return value != "asc"
