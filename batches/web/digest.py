"""The errors of a batch by their causes, and the retry of one cause's lines."""

import re
import secrets
from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.http import require_POST, require_safe

from batches import digest as digests
from batches import retries
from batches.core import causes
from batches.core.states import ACTIVE, RUN
from batches.idempotency import Attempt, Made, Replayed
from batches.models import Batch
from batches.web import finding
from tenants import trail
from tenants.errors import Refused
from tenants.models import Tenant
from tenants.web.access import Role, Seat, seat

_TOKEN = re.compile("[0-9a-f]{32}")


@require_safe
@seat()
def digest(request: HttpRequest, seat: Seat, batch_id: str) -> HttpResponse:
    """Why lines failed; to htmx the part alone that another page loads."""
    batch = finding.batch(seat.tenant, batch_id)
    groups = digests.groups(batch)
    context = {
        "batch": batch,
        "groups": [(group, secrets.token_hex(16)) for group in groups],
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
    return redirect(batch_address(seat.tenant, made))


def _retry(request: HttpRequest, seat: Seat, found: Batch) -> str:
    token = request.POST.get("token", "")
    if not _TOKEN.fullmatch(token):
        raise Refused(400, "invalid_idempotency_key", "This form is not the page's own: load the page again.")
    some = retries.read_causes(request.POST.get("error_codes", ""))
    with _Noted(seat, request.path, token, found, some or causes.Causes()) as attempt:
        attempt.name(sorted(some or ()))
        return retries.retry(found, attempt, some).public_id


class _Noted(Attempt):
    """A person's attempt: what it makes stands in the trail, by the same transaction."""

    def __init__(self, seat: Seat, path: str, token: str, retried: Batch, some: causes.Causes) -> None:
        super().__init__(seat.tenant, None, f"POST {path}", key=f"page:{token}")
        self._actor, self._retried, self._some = seat.user.email, retried, some

    def create(self, make: Callable[[Tenant], Made]) -> Made:
        def noted(tenant: Tenant) -> Made:
            made = make(tenant)
            details = {"retry_of": self._retried.public_id, "error_codes": sorted(self._some)}
            trail.record(tenant, self._actor, "batch.retried", made.public_id, **details)
            return made

        return super().create(noted)


def batch_address(tenant: Tenant, batch_id: str) -> str:
    """A batch's own page."""
    try:
        return reverse("batch", args=[tenant.public_id, batch_id])
    except NoReverseMatch:
        return reverse("lines", args=[tenant.public_id, batch_id])
