"""A batch's page, and the part of it that is asked for while the batch moves."""

import hashlib
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from batches.api import serializers
from batches.core.states import ACTIVE, CLOSING, RUN, Status
from batches.models import Batch
from batches.web import looks, showing, snippets, watching
from batches.web.traced import fresh_form
from tenants.web.access import Seat, seat

EVERY = "2s"
LISTED = 20  # retries of a batch


@require_safe
@seat()
def batch_page(request: HttpRequest, seat: Seat, batch_id: str) -> HttpResponse:
    """All there is to know of one batch."""
    return render(request, "batches/batch.html", whole(request, seat, watching.batch(seat.tenant, batch_id)))


@require_safe
@seat()
def batch_head(request: HttpRequest, seat: Seat, batch_id: str) -> HttpResponse:
    """The part that moves, for the page itself: nothing when it is as the page has it; where the state has changed,
    what depends on that as well."""
    found = watching.batch(seat.tenant, batch_id)
    context = _moving(found, timezone.now())
    if context["seen"] == request.GET.get("seen"):
        return HttpResponse(status=204)
    if context["state"] != request.GET.get("state"):
        context |= _of_state(seat, found, timezone.now()) | {"changed": True}
    return render(request, "batches/parts/head.html", context)


def whole(request: HttpRequest, seat: Seat, found: Any) -> dict[str, Any]:
    """What the page is made of."""
    now = timezone.now()
    return {
        **_moving(found, now),
        **_of_state(seat, found, now),
        "has_lines": found.status != Status.FAILED,
        "snippets": snippets.of(request, found),
    }


def _moving(found: Any, now: datetime) -> dict[str, Any]:
    head = showing.head(found, now)
    moves = showing.is_moving(found, now)
    return {
        "batch": found,
        "head": head,
        "state": showing.state(found),
        "seen": hashlib.blake2s(repr((head, moves)).encode(), digest_size=8).hexdigest(),
        "every": EVERY if moves else "",
    }


def _of_state(seat: Seat, found: Any, now: datetime) -> dict[str, Any]:
    """What changes with the batch's state alone."""
    undelivered = found.total - found.completed
    shown = serializers.native(found)
    retries = Batch.objects.filter(tenant=seat.tenant, retry_of=found).order_by("pk")
    return {
        "pause": showing.pause(found),
        "can_cancel": found.status in ACTIVE and found.status not in (*CLOSING, Status.FINALIZING),
        "can_retry": found.status in RUN and undelivered > 0 and found.erased_at is None,
        "can_erase": showing.is_erasable(found),
        "undelivered": f"{undelivered:,}",
        "form_token": fresh_form(),
        "has_partial": found.status in ACTIVE and found.status != Status.VALIDATING,
        "has_output": found.results_file_id is not None and found.erased_at is None,
        "retried_by": list(retries.values_list("public_id", flat=True)[:LISTED]) if found.status in RUN else [],
        "timeline": showing.timeline(found, now),
        "faults": showing.faults(shown),
        "facts": showing.facts(found, shown),
        "metadata": showing.metadata(found),
        "deadline": looks.moment(found.deadline),
    }
