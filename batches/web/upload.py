"""The page of a new batch: a file, a look at it, options, and the batch."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from batches import files, intake, uploads, validation
from batches.core.requests import ENDPOINTS
from batches.idempotency import Replayed
from batches.models import File
from batches.web.traced import Traced, fresh_form
from batches.web.typed import Typed, typed
from tenants.errors import Refused
from tenants.models import Membership, Tenant
from tenants.web.access import Role, Seat, seat

BESIDE = ("endpoint", "on_invalid_line", "max_cost_usd", "max_error_rate", "metadata")  # fields with their refusals
LATEST = 10  # files that are offered
PEOPLE = 20  # named to who may not
NO_FILE = Refused(400, "missing_file", "Choose a file first, or take one that is uploaded already.")
SENT_TWICE = {
    "idempotency_key_in_use": "It is being submitted already. Look at your batches, or submit it again in a moment.",
    "idempotency_key_reused": "This form has made a batch already, with other options. Submit it again for another.",
}


@require_http_methods(["GET", "HEAD", "POST"])
@seat()
def upload(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The page, with the file that `file` names; a POST makes the batch."""
    if not seat.writes:
        return _closed(request, seat)
    if request.method == "POST":
        return _submit(request, seat)
    file = _file(seat.tenant, request.GET.get("file", ""))
    refused = files.missing("input_file_id") if "file" in request.GET and file is None else None
    return _page(request, seat, Typed(fresh_form(), file.public_id if file else ""), refused)


def _submit(request: HttpRequest, seat: Seat) -> HttpResponse:
    form = typed(request.POST)
    try:
        batch_id = _made(request, seat, form)
    except Refused as refused:
        if refused.code == "idempotency_key_reused":
            form = form._replace(token=fresh_form())
        return _page(request, seat, form, refused)
    messages.success(request, f"{batch_id} is submitted. All its lines are checked before the first one runs.")
    return redirect("batch", seat.tenant.public_id, batch_id)


def _made(request: HttpRequest, seat: Seat, form: Typed) -> str:
    """The public id of the batch that the form makes, or has made."""
    seat.check_active()
    if not form.file_id:
        raise NO_FILE
    endpoint, metadata, columns = form.read()
    try:
        with Traced(seat, f"POST {request.path}", "batch.submitted", form=form.token, **form.details()) as attempt:
            attempt.name(form.file_id, endpoint, metadata, columns)
            return intake.submit(attempt, form.file_id, endpoint, metadata, **columns).public_id
    except Replayed as replayed:
        return replayed.object_id


def _page(request: HttpRequest, seat: Seat, form: Typed, refused: Refused | None) -> HttpResponse:
    """Status 200 also where it was refused: the form is shown again, with what was typed."""
    context: dict[str, Any] = {
        "form": form,
        "pairs": [*form.pairs, ("", "")],
        "refused": refused,
        "fields": BESIDE,
        "message": SENT_TWICE.get(refused.code, refused.message) if refused else "",
        "file": _file(seat.tenant, form.file_id),
        "latest": _inputs(seat.tenant).order_by("-pk")[:LATEST],
        "models": sorted(validation.reachable_upstreams(seat.tenant.pk)),
        "endpoints": ENDPOINTS,
        "limits": {"bytes": uploads.MAX_BYTES, "lines": uploads.MAX_LINES, "pairs": intake.MAX_METADATA},
        "too_large": uploads.too_large().message,
        "empty": uploads.EMPTY,
        "submit_url": request.build_absolute_uri("/v1/batch"),
    }
    return render(request, "batches/upload.html", context)


def _closed(request: HttpRequest, seat: Seat) -> HttpResponse:
    """For readers: who may."""
    places = Membership.objects.filter(tenant=seat.tenant).exclude(role=Role.READER).select_related("user")
    people = [place.user.email for place in places.order_by("pk")[:PEOPLE]]
    return render(request, "batches/upload_closed.html", {"people": people}, status=403)


def _inputs(tenant: Tenant) -> Any:
    return files.of_tenant(tenant).filter(purpose=File.Purpose.BATCH).exclude(storage_key="")


def _file(tenant: Tenant, file_id: str) -> File | None:
    """The tenant's file, if it can be a batch's input."""
    if not file_id:
        return None
    try:
        return files.input_of(tenant, file_id, lock=False)
    except Refused:
        return None
