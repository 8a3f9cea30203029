"""The errors of a batch by their causes, and the retry of one cause's lines."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from batches import digest as digests
from batches import retries
from batches.core.states import ACTIVE, RUN
from batches.idempotency import Replayed
from batches.models import Batch
from batches.web import finding
from batches.web.traced import Traced, fresh_form
from tenants.errors import Refused
from tenants.web.access import Role, Seat, seat


@require_safe
@seat()
def digest(request: HttpRequest, seat: Seat, batch_id: str) -> HttpResponse:
    """Why lines failed; to htmx the part alone that another page loads."""
    batch = finding.batch(seat.tenant, batch_id)
    groups = digests.groups(batch)
    context = {
        "batch": batch,
        "groups": [(group, fresh_form()) for group in groups],
        "undelivered": sum(group.lines for group in groups),
        "share_of": max(batch.total, 1),
        "runs": batch.status in ACTIVE,
        "ended": batch.status in RUN,
    }
    page = "batches/digest_part.html" if "HX-Request" in request.headers else "batches/digest.html"
    return render(request, page, context)


@require_POST
@seat(Role.MEMBER)
def retry_cause(request: HttpRequest, seat: Seat, batch_id: str) -> HttpResponse:
    """A new batch of the lines of one cause. What forbids it is said on the digest; a form sent twice makes one."""
    found = finding.batch(seat.tenant, batch_id)
    try:
        made = _retry(request, seat, found)
    except Replayed as replayed:
        made = replayed.object_id
    except Refused as refused:
        messages.error(request, refused.message)
        return redirect("digest", seat.tenant.public_id, found.public_id)
    messages.success(request, f"The lines are run again as {made}.")
    return redirect("batch", seat.tenant.public_id, made)


def _retry(request: HttpRequest, seat: Seat, found: Batch) -> str:
    seat.check_active()
    form = request.POST.get("form", "")
    some = retries.read_causes(request.POST.get("error_codes", ""))
    details = {"retry_of": found.public_id, "error_codes": sorted(some or ())}
    with Traced(seat, f"POST {request.path}", "batch.retried", form=form, **details) as attempt:
        attempt.name(sorted(some or ()))
        return retries.retry(found, attempt, some).public_id
