"""A new batch: a file is uploaded, looked at, and submitted with what was chosen for it."""

import json
import secrets
from typing import Any

from django.contrib import messages
from django.db import DatabaseError, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from batches import files, intake, preflight, transfers, uploads
from batches.api import fields
from batches.core.requests import ENDPOINTS
from batches.idempotency import Attempt, Replayed
from batches.models import Batch, File
from batches.validation import reachable_models
from batches.web import examined
from tenants import trail
from tenants.errors import Refused
from tenants.models import Tenant
from tenants.web.access import Role, Seat, seat

LATEST = 10  # files that are offered again
OPTIONS = ("endpoint", "on_invalid_line", "metadata", "max_cost_usd", "max_error_rate")
PAIR = "metadata: write one pair a line, such as suite=mmlu."


@require_http_methods(["GET", "HEAD", "POST"])
@seat()
def upload(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The page; or, sent, the batch."""
    if request.method == "POST":
        return _submit(request, seat)
    return _page(request, seat, {"file": request.GET.get("file", "")})


@require_http_methods(["PUT"])
@seat(Role.MEMBER)
def receive(request: HttpRequest, seat: Seat) -> JsonResponse:
    """The bytes of a file, which becomes one of the tenant's."""
    uploads.check_length(request)
    incoming = uploads.receive_body(request, request.GET.get("filename", ""))
    try:
        with transaction.atomic():
            file = files.create(seat.tenant, incoming.complete())
            trail.record(seat.tenant, seat.user.email, "file.uploaded", file.public_id, filename=file.filename)
    except DatabaseError:
        raise  # the row may be there after all: an object that nobody names is swept a day later
    except BaseException:
        incoming.discard()
        raise
    return JsonResponse({"id": file.public_id})


@require_safe
@seat(Role.MEMBER)
def report(request: HttpRequest, seat: Seat) -> HttpResponse:
    """What would come of the file, with what is chosen so far: a part of the page."""
    context: dict[str, Any] = {}
    try:
        file = files.input_of(seat.tenant, request.GET.get("file", ""), lock=False)
        endpoint, _, columns = _chosen(request.GET)
        skips = columns["on_invalid_line"] == Batch.OnInvalidLine.SKIP
        asked = preflight.Asked(endpoint, skips, columns.get("max_cost"))
        found = preflight.examine(seat.tenant, file.storage_key, file.lines, asked)
        context = {"file": file, "report": examined.shown(found, skips)}
    except Refused as refused:
        context = {"refused": refused, "again": refused.status == 503}
    return render(request, "batches/parts/report.html", context)


@require_POST
@seat(Role.MEMBER)
def remove(request: HttpRequest, seat: Seat, file_id: str) -> HttpResponse:
    """A file that nobody needs any more."""
    try:
        with transaction.atomic():
            file = files.delete(seat.tenant, file_id)
            trail.record(seat.tenant, seat.user.email, "file.deleted", file.public_id, filename=file.filename)
        messages.success(request, f"{file.filename} is removed.")
    except Refused as refused:
        messages.error(request, refused.message)
    return redirect("upload", seat.tenant.public_id)


@require_safe
@seat()
def example(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Three lines to try it with, for a model that the tenant has."""
    model = _model(seat.tenant)
    asked = ("What is a batch?", "Name three uses of one.", "Say good night.")
    lines = [
        {
            "custom_id": f"example-{number}",
            "method": "POST",
            "url": ENDPOINTS[0],
            "body": {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 64},
        }
        for number, text in enumerate(asked, 1)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    response = HttpResponse(text, content_type="application/jsonl")
    response["Content-Disposition"] = transfers.disposition("example.jsonl")
    return response


def _model(tenant: Tenant) -> str:
    return min(reachable_models(tenant.pk), default="MODEL")


def _submit(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The batch, made once however often the form is sent; refused, the form as it was, and why."""
    if not seat.writes:
        raise Refused(403, "role_insufficient", f"This takes a member or an owner of {seat.tenant.name}. Ask one.")
    given, token = request.POST, request.POST.get("token", "")[:64].replace("\x00", "")
    try:
        batch_id = _made(seat, given.get("file", ""), given, token)
    except Replayed as replayed:
        batch_id = replayed.object_id
    except Refused as refused:
        return _page(request, seat, {name: given.get(name, "") for name in ("file", *OPTIONS)}, refused)
    return redirect("batch", seat.tenant.public_id, batch_id)


def _made(seat: Seat, file_id: str, given: Any, token: str) -> str:
    endpoint, metadata, columns = _chosen(given)
    with Attempt(seat.tenant, None, "web/upload", key=f"web-{token}") as attempt:
        attempt.name(file_id, endpoint, metadata, columns)
        intake.check_room(seat.tenant)
        with transaction.atomic():
            batch = intake.submit(attempt, file_id, endpoint, metadata, **columns)
            trail.record(seat.tenant, seat.user.email, "batch.submitted", batch.public_id, file=file_id)
    return batch.public_id


def _chosen(given: Any) -> tuple[str, str, dict[str, Any]]:
    """Endpoint, metadata and other columns of the batch. Raises Refused 400."""
    caps = {name: given[name].strip() for name in fields.CAPS if given.get(name, "").strip()}
    columns = fields.read_caps(caps)
    columns["on_invalid_line"] = intake.read_on_invalid_line(given.get("on_invalid_line") or None)
    return intake.read_endpoint(given.get("endpoint") or None), _metadata(given.get("metadata", "")), columns


def _metadata(text: str) -> str:
    pairs = [line.partition("=") for line in text.splitlines() if line.strip()]
    if not all(sign and name.strip() for name, sign, _ in pairs) or "\x00" in text:
        raise Refused(400, "invalid_metadata", PAIR, param="metadata")
    found = {name.strip(): value.strip() for name, _, value in pairs}
    if len(found) < len(pairs):
        raise Refused(400, "invalid_metadata", "metadata: a name stands twice.", param="metadata")
    return intake.check_metadata(found)


def _page(request: HttpRequest, seat: Seat, given: dict[str, str], refused: Refused | None = None) -> HttpResponse:
    file = files.of_tenant(seat.tenant).filter(public_id=given["file"].replace("\x00", "")).first()
    context = {
        "given": given,
        "file": file,
        "refused": refused,
        "endpoints": ENDPOINTS,
        "latest": _latest(seat.tenant),
        "token": secrets.token_urlsafe(16),
        "limits": {"bytes": uploads.MAX_BYTES, "lines": uploads.MAX_LINES},
        "submit_url": request.build_absolute_uri("/v1/batch"),
        "model": _model(seat.tenant),
    }
    return render(request, "batches/upload.html", context, status=refused.status if refused else 200)


def _latest(tenant: Tenant) -> list[File]:
    rows = files.of_tenant(tenant).filter(purpose=File.Purpose.BATCH).exclude(storage_key="")
    return list(rows.order_by("-pk")[:LATEST])
