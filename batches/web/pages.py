"""What people see in a browser: the batches of their tenants."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from batches.core import caps
from batches.core.states import ACTIVE, Status
from batches.models import Batch
from billing import money
from tenants.models import Membership, Tenant

PAGE = 50
UNREAD = (Status.VALIDATING, Status.FAILED)  # no model means: not known
# What a status looks like: busy and waiting batches move, good, bad and still ones have ended.
LOOKS = {
    Status.VALIDATING: "waiting",
    Status.IN_PROGRESS: "busy",
    Status.CANCELLING: "waiting",
    Status.EXPIRING: "waiting",
    Status.FINALIZING: "busy",
    Status.COMPLETED: "good",
    Status.FAILED: "bad",
    Status.CANCELLED: "still",
    Status.EXPIRED: "bad",
}
PAUSES = {
    caps.MAX_COST: "cost limit reached",
    caps.MAX_ERROR_RATE: "too many lines failed",
    caps.CREDITS: "credits used up",
    caps.SPENDING: "spending limit reached",
}
COLUMNS = (
    "public_id", "tenant_id", "status", "paused_reason", "total", "completed", "failed", "model", "cost", "created_at",
    "deadline", "ended_at", "input_file__filename",
)  # fmt: skip


class Row(NamedTuple):
    """A batch as the list shows it."""

    batch: Batch
    tenant: str
    label: str
    look: str
    done: int
    progress: str
    paused: str
    failed: str
    model: str
    cost: str
    active: bool


# Redoc works in a script, its search in a worker of it, its styles in the page; it would fetch a logo from elsewhere.
ONLY_OURS = (
    "default-src 'none'; script-src 'self'; worker-src blob:; style-src 'self' 'unsafe-inline'; connect-src 'self';"
    " img-src 'self' data:; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@require_safe
def api(request: HttpRequest) -> HttpResponse:
    """The description of the API, to read. Needs no sign-in; nothing is loaded from another host."""
    page = render(request, "api.html")
    page["Content-Security-Policy"] = ONLY_OURS
    return page


@never_cache
@require_safe
@login_required
def batch_list(request: HttpRequest) -> HttpResponse:
    """The batches of every tenant that the signed-in person belongs to, newest first, PAGE at a time."""
    tenants = _tenants(request)
    after = request.GET.get("after", "")
    found = list(_after(_of(tenants), after)[: PAGE + 1]) if tenants else []
    rows = [_row(batch, tenants) for batch in found[:PAGE]]
    context = {
        "tenants": tenants.values(),
        "several": len(tenants) > 1,
        "rows": rows,
        "after": after,
        "next": found[PAGE - 1].public_id if len(found) > PAGE else "",
        "refresh": any(row.active for row in rows),
        "submit_url": request.build_absolute_uri("/v1/batch"),
    }
    return render(request, "batches/list.html", context)


def _tenants(request: HttpRequest) -> dict[int, Tenant]:
    """The tenants of the signed-in person, whatever the role, by name."""
    signed_in: Any = request.user.pk  # an int behind login_required
    mine = Membership.objects.filter(user_id=signed_in).select_related("tenant").order_by("tenant__name")
    return {membership.tenant_id: membership.tenant for membership in mine}


def _of(tenants: Mapping[int, Tenant]) -> QuerySet[Batch]:
    rows = Batch.objects.filter(tenant_id__in=tenants).order_by("-pk")
    return rows.select_related("input_file").only(*COLUMNS)


def _after(rows: QuerySet[Batch], after: str) -> QuerySet[Batch]:
    """What is older than the batch `after`; a foreign one answers as one that does not exist."""
    if not after:
        return rows
    cursor = rows.filter(public_id=after).values_list("pk", flat=True).first() if "\x00" not in after else None
    if cursor is None:
        raise Http404
    return rows.filter(pk__lt=cursor)


def _row(batch: Batch, tenants: Mapping[int, Tenant]) -> Row:
    status = Status(batch.status)
    done = batch.completed + batch.failed
    return Row(
        batch=batch,
        tenant=tenants[batch.tenant_id].name,
        label="Paused" if batch.paused_reason else status.replace("_", " ").capitalize(),
        look="waiting" if batch.paused_reason else LOOKS[status],
        done=done,
        progress="The input is not valid" if status == Status.FAILED else f"{done:,} of {batch.total:,}",
        paused=PAUSES.get(batch.paused_reason, ""),
        failed=f"{batch.failed:,} failed" if batch.failed else "",
        model=batch.model or ("—" if status in UNREAD else "several"),
        cost=_cents(money.usd(batch.cost)),
        active=status in ACTIVE,
    )


def _cents(usd: str) -> str:
    """With two decimals at least; none of those there are is dropped."""
    whole, _, fraction = usd.partition(".")
    return f"{whole}.{fraction:0<2}"
