"""A file on its way from a page: taken in, removed again; and one to begin with."""

from typing import Any

from django.contrib import messages
from django.db import DatabaseError, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from batches import files, uploads, validation
from batches.models import File
from batches.web.traced import Traced
from batches.web.typed import example as example_of
from tenants import trail
from tenants.errors import Refused
from tenants.web.access import Role, Seat, seat


@require_http_methods(["PUT"])
@seat(Role.MEMBER, active=True)
def receive(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The body is the file, `filename` its name; it becomes a file of the tenant."""
    uploads.check_length(request, room=0)
    uploads.check_room(request, seat.tenant, room=0)
    name = request.GET.get("filename", "").replace("\\", "/").rpartition("/")[2]
    arriving = uploads.receive_raw(request, name)
    try:
        made = _store(request, seat, arriving.complete())
    except DatabaseError:
        raise  # the file may be there after all: an object that nobody names is swept a day later
    except BaseException:
        arriving.discard()
        raise
    return JsonResponse({"id": made.public_id, "bytes": made.bytes, "lines": made.lines})


def _store(request: HttpRequest, seat: Seat, stored: uploads.Stored) -> File:
    details: dict[str, Any] = {"bytes": stored.bytes, "lines": stored.lines, "sha256": stored.sha256}
    with Traced(seat, f"PUT {request.path}", "file.uploaded", **details) as attempt:
        attempt.name(stored.sha256, stored.key)
        return files.store(attempt, stored, None)


@require_POST
@seat(Role.MEMBER, active=True)
def remove(request: HttpRequest, seat: Seat, file_id: str) -> HttpResponse:
    """Delete a file that no active batch uses. For htmx a part of the page, so that what was typed stays."""
    part = "HX-Request" in request.headers
    try:
        with transaction.atomic():
            gone = files.delete(seat.tenant, file_id)
            trail.record(seat.tenant, seat.user.email, "file.deleted", gone.public_id)
    except Refused as refused:
        if part:
            return render(request, "batches/parts/preflight.html", {"refused": refused, "file": None})
        raise
    if part:
        page = render(request, "batches/parts/preflight.html", {"removed": gone})
        page["HX-Trigger"] = "removed"
        return page
    messages.success(request, f"{gone.filename} is removed.")
    return redirect("upload", seat.tenant.public_id)


@require_safe
@seat()
def example(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Three lines for a model that the tenant can reach: `model`, or the first."""
    models = sorted(validation.reachable_upstreams(seat.tenant.pk))
    model = request.GET.get("model", models[0] if models else "")
    if model not in models:
        raise Refused(404, "model_not_found", "There is no model of this name here for you.", param="model")
    headers = {"Content-Disposition": 'attachment; filename="example.jsonl"'}
    return HttpResponse(example_of(model), content_type="application/jsonl", headers=headers)
