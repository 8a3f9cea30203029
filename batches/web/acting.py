"""What people do to a batch: cancel it, go on with it, retry what failed, delete its data.

Each is posted by a form, and led back.
"""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from batches import erasing, lifecycle, retries
from batches.api import fields
from batches.idempotency import Attempt, Replayed
from batches.web import page, watching
from batches.web.traced import Traced
from tenants import trail
from tenants.errors import Refused
from tenants.web.access import Role, Seat, seat

MAX_FIELD = 64  # characters


@require_POST
@seat(Role.MEMBER, active=True)
def cancel(request: HttpRequest, seat: Seat, batch_id: str) -> HttpResponse:
    """Stop sending; what is done is kept."""
    found = watching.batch(seat.tenant, batch_id)
    if found.cancelling_at is None:
        _act(request, seat, found, "batch.cancelled", lambda: lifecycle.cancel(found))
    messages.success(request, "It is being cancelled: nothing more is sent, and what is done is kept.")
    return redirect("batch", seat.tenant.public_id, batch_id)


@require_POST
@seat(Role.MEMBER, active=True)
def resume(request: HttpRequest, seat: Seat, batch_id: str) -> HttpResponse:
    """Go on with a paused batch, with another limit where the form has its field: empty is none."""
    found = watching.batch(seat.tenant, batch_id)
    sent = {name: request.POST[name].strip()[:MAX_FIELD] for name in fields.CAPS if name in request.POST}
    try:
        new_caps = fields.read_caps({name: value or None for name, value in sent.items()})
        details = {name: value or None for name, value in sent.items()}
        _act(request, seat, found, "batch.resumed", lambda: lifecycle.resume(found, **new_caps), **details)
    except Refused as refused:
        return _again(request, seat, batch_id, refused, sent)
    messages.success(request, "It goes on.")
    return redirect("batch", seat.tenant.public_id, batch_id)


@require_POST
@seat(Role.MEMBER, active=True)
def retry(request: HttpRequest, seat: Seat, batch_id: str) -> HttpResponse:
    """A new batch of the lines that were not delivered; the same form sent twice makes one."""
    found = watching.batch(seat.tenant, batch_id)
    form = request.POST.get("form", "")
    try:
        with Traced(seat, f"POST {request.path}", "batch.retried", form=form, retry_of=batch_id) as attempt:
            attempt.name({})
            made = retries.retry(found, attempt).public_id
    except Replayed as replayed:
        made = replayed.object_id
    messages.success(request, "This is the retry: a batch of its own, of the lines that were not delivered.")
    return redirect("batch", seat.tenant.public_id, made)


@require_POST
@seat(Role.MEMBER, active=True)
def erase(request: HttpRequest, seat: Seat, batch_id: str) -> HttpResponse:
    """Delete the data of an ended batch."""
    found = watching.batch(seat.tenant, batch_id)
    erasing.erase(found, seat.user.email)
    if erasing.keeps_input(found):
        messages.warning(request, "Its data is deleted, but for the input: a batch that has not ended uses it.")
    else:
        messages.success(request, "Its data is deleted. What it took and cost is kept.")
    return redirect("batch", seat.tenant.public_id, batch_id)


def _act(
    request: HttpRequest, seat: Seat, found: Any, action: str, do: Callable[[], bool | None], **details: Any
) -> None:
    """Change the batch, forget what a repetition of its making would be answered, and note it: all in one."""
    with Attempt(seat.tenant, None, f"POST {request.path}") as attempt:
        attempt.name(details)
        with attempt.acting(found.public_id):
            if do() is not False:  # of two at once it was the other's
                trail.record(seat.tenant, seat.user.email, action, found.public_id, **details)


def _again(request: HttpRequest, seat: Seat, batch_id: str, refused: Refused, sent: dict[str, str]) -> HttpResponse:
    """The page with what was wrong beside the field, or above everything where the form is not there any more."""
    found = watching.batch(seat.tenant, batch_id)
    context = page.whole(request, seat, found)
    if context["pause"]:
        field = context["pause"]["field"]
        context["pause"] |= {"refused": refused.message, "value": sent.get(field, "")}
    else:
        context["refused"] = refused.message
    return render(request, "batches/batch.html", context, status=refused.status)
