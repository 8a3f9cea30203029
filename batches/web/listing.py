"""The list of a tenant's batches: found by state, model and name; its rows are asked for again while they move."""

import hashlib
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.db.models import Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from batches import validation
from batches.core.states import ACTIVE, Status
from batches.models import Batch
from batches.web import looks
from billing import money
from tenants.errors import Refused
from tenants.models import Tenant
from tenants.web.access import Seat, seat

PAGE = 50
LOOKED = 10_000  # batches among which a state, a model or a name is looked for, before one goes on to older ones
MAX_TEXT = 255  # characters
STATES = {
    "": ("All", Q()),
    "active": ("Active", Q(status__in=ACTIVE)),
    "paused": ("Paused", Q(status=Status.IN_PROGRESS) & ~Q(paused_reason="")),
    "completed": ("Completed", Q(status=Status.COMPLETED)),
    "failed": ("Failed", Q(status=Status.FAILED)),
    "cancelled": ("Cancelled", Q(status=Status.CANCELLED)),
    "expired": ("Expired", Q(status=Status.EXPIRED)),
}
COLUMNS = (
    "public_id", "tenant_id", "status", "paused_reason", "total", "completed", "failed", "model", "cost", "created_at",
    "deadline", "ended_at", "expected_at", "input_file__filename",
)  # fmt: skip


class Asked(NamedTuple):
    """What is looked for, and after which batch."""

    status: str
    model: str
    q: str
    after: str

    @property
    def narrow(self) -> Q:
        """What of the tenant's batches is wanted."""
        wanted = STATES[self.status][1]
        if self.model:
            wanted &= Q(model=self.model)
        if self.q:
            wanted &= Q(public_id__startswith=self.q) | Q(input_file__filename__icontains=self.q)
        return wanted

    def query(self, **others: str) -> str:
        """As an address has it, with these instead."""
        given = {name: value for name, value in {**self._asdict(), **others}.items() if value}
        return f"?{urlencode(given)}" if given else ""


class Row(NamedTuple):
    """A batch as the list shows it."""

    id: str
    filename: str
    status: str
    label: str
    look: str
    done: int
    total: int
    progress: str
    paused: str
    failed: str
    model: str
    cost: str
    created: looks.Moment
    end: looks.Moment
    end_word: str  # "Ended", "Ends", "Due"
    end_text: str  # for a foreseen end, in words


@require_safe
@seat()
def batch_list(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The tenant's batches, newest first, PAGE at a time."""
    asked = _asked(request)
    found = list(_found(seat.tenant, asked)[: PAGE + 1])
    if not found and asked.after and not _is_there(seat.tenant, asked.after):
        raise Http404
    shown = found[:PAGE]
    more = found[PAGE - 1].public_id if len(found) > PAGE else ""
    context = _polled(seat, asked, shown) | {
        "asked": asked,
        "states": [(name, STATES[name][0]) for name in STATES],
        "models": sorted(validation.reachable_upstreams(seat.tenant.pk).keys() | ({asked.model} - {""})),
        "narrowed": asked._replace(after="") != Asked("", "", "", ""),
        "newest": asked.query(after="") or "?",
        "older": asked.query(after=more) if more else "",
        "further": "" if more else _further(seat.tenant, asked),
        "looked": f"{LOOKED:,}",
        "submit_url": request.build_absolute_uri("/v1/batch"),
    }
    return render(request, "batches/list.html", context)


@require_safe
@seat()
def batch_rows(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The rows of a page alone, for the page itself: nothing when they are as it has them."""
    asked, seen = _asked(request), request.GET.get("seen", "")
    shown = list(_found(seat.tenant, asked)[:PAGE])
    context = _polled(seat, asked, shown)
    if context["seen"] == seen:
        return HttpResponse(status=204)
    if not shown or seen == _digest([]):  # the first one has come, or the last one left: the page says other things
        return HttpResponse(headers={"HX-Refresh": "true"})
    return render(request, "batches/parts/rows.html", context)


def _asked(request: HttpRequest) -> Asked:
    given = {name: request.GET.get(name, "").replace("\x00", "�").strip() for name in Asked._fields}
    if given["status"] not in STATES:
        known = ", ".join(filter(None, STATES))
        raise Refused(400, "invalid_status", f"status must be one of {known}.", param="status")
    return Asked(**{name: value[:MAX_TEXT] for name, value in given.items()})


def _found(tenant: Tenant, asked: Asked) -> QuerySet[Batch]:
    """The batches that are asked for, newest first, in one query; without any after one that is not the tenant's.

    Who looks for something reads at most LOOKED entries of the tenant's index.
    """
    rows = Batch.objects.filter(tenant=tenant)
    if asked.after:
        rows = rows.filter(pk__lt=Subquery(rows.filter(public_id=asked.after).values("pk")))
    if asked.narrow:
        floor = rows.order_by("-pk").values("pk")[LOOKED : LOOKED + 1]
        rows = rows.filter(asked.narrow, pk__gt=Coalesce(Subquery(floor), 0))
    return rows.order_by("-pk").select_related("input_file").only(*COLUMNS)


def _further(tenant: Tenant, asked: Asked) -> str:
    """The query that looks among still older batches; empty when there are none."""
    if not asked.narrow:
        return ""
    rows = Batch.objects.filter(tenant=tenant)
    if asked.after:
        rows = rows.filter(pk__lt=Subquery(rows.filter(public_id=asked.after).values("pk")))
    last = list(rows.order_by("-pk").values_list("public_id", flat=True)[LOOKED - 1 : LOOKED + 1])
    return asked.query(after=last[0]) if len(last) > 1 else ""


def _is_there(tenant: Tenant, batch_id: str) -> bool:
    return Batch.objects.filter(tenant=tenant, public_id=batch_id).exists()


def _polled(seat: Seat, asked: Asked, shown: list[Batch]) -> dict[str, Any]:
    """What the rows are made of, and how often they are asked for: seldom where none moves, but one may come."""
    now = timezone.now()
    rows = [_row(batch, now) for batch in shown]
    seen = _digest(rows)
    moving = any(batch.status in ACTIVE for batch in shown)
    every = "2s" if moving else "5s" if not shown else "15s"
    address = reverse("batch_rows", args=[seat.tenant.public_id])
    return {
        "rows": rows,
        "seen": seen,
        "poll": f"{address}{asked.query(seen=seen)}",
        "every": every if moving or not asked.after else "",
        "address": reverse("batches", args=[seat.tenant.public_id]),
    }


def _digest(rows: list[Row]) -> str:
    return hashlib.blake2s(repr(rows).encode(), digest_size=8).hexdigest()


def _row(batch: Batch, now: datetime) -> Row:
    done = batch.completed + batch.failed
    soon = looks.expected(batch, now)
    word = "Ended" if batch.ended_at else "Ends" if soon else "Due"
    end = batch.ended_at or (batch.expected_at if soon else None) or batch.deadline
    return Row(
        id=batch.public_id,
        filename=batch.input_file.filename,
        status=batch.status,
        label=looks.label(batch),
        look=looks.look(batch),
        done=done,
        total=batch.total or 1,
        progress="The input is not valid" if batch.status == Status.FAILED else f"{done:,} of {batch.total:,}",
        paused=looks.PAUSES.get(batch.paused_reason, ""),
        failed=f"{batch.failed:,} failed" if batch.failed else "",
        model=looks.models(batch),
        cost=looks.cents(money.usd(batch.cost)),
        created=looks.moment(batch.created_at),
        end=looks.moment(end),
        end_word=word,
        end_text=soon,
    )
