"""The list of a tenant's batches."""

from typing import NamedTuple

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from batches.core.states import ACTIVE, Status
from batches.models import Batch
from batches.web.looks import LOOKS, PAUSES, cents
from billing import money
from tenants.models import Tenant
from tenants.web.access import Seat, seat

PAGE = 50
UNREAD = (Status.VALIDATING, Status.FAILED)  # no model means: not known
COLUMNS = (
    "public_id", "tenant_id", "status", "paused_reason", "total", "completed", "failed", "model", "cost", "created_at",
    "deadline", "ended_at", "input_file__filename",
)  # fmt: skip


class Row(NamedTuple):
    """A batch as the list shows it."""

    batch: Batch
    label: str
    look: str
    done: int
    progress: str
    paused: str
    failed: str
    model: str
    cost: str
    active: bool


@require_safe
@seat()
def batch_list(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The tenant's batches, newest first, PAGE at a time."""
    after = request.GET.get("after", "")
    found = list(_after(_of(seat.tenant), after)[: PAGE + 1])
    context = {
        "rows": [_row(batch) for batch in found[:PAGE]],
        "after": after,
        "next": found[PAGE - 1].public_id if len(found) > PAGE else "",
        "submit_url": request.build_absolute_uri("/v1/batch"),
    }
    return render(request, "batches/list.html", context)


def _of(tenant: Tenant) -> QuerySet[Batch]:
    return Batch.objects.filter(tenant=tenant).order_by("-pk").select_related("input_file").only(*COLUMNS)


def _after(rows: QuerySet[Batch], after: str) -> QuerySet[Batch]:
    """What is older than the batch `after`; a foreign one answers as one that does not exist."""
    if not after:
        return rows
    cursor = rows.filter(public_id=after).values_list("pk", flat=True).first() if "\x00" not in after else None
    if cursor is None:
        raise Http404
    return rows.filter(pk__lt=cursor)


def _row(batch: Batch) -> Row:
    status = Status(batch.status)
    done = batch.completed + batch.failed
    return Row(
        batch=batch,
        label="Paused" if batch.paused_reason else status.replace("_", " ").capitalize(),
        look="waiting" if batch.paused_reason else LOOKS[status],
        done=done,
        progress="The input is not valid" if status == Status.FAILED else f"{done:,} of {batch.total:,}",
        paused=PAUSES.get(batch.paused_reason, ""),
        failed=f"{batch.failed:,} failed" if batch.failed else "",
        model=batch.model or ("—" if status in UNREAD else "several"),
        cost=cents(money.usd(batch.cost)),
        active=status in ACTIVE,
    )
