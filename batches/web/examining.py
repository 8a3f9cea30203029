"""What would come of a file, beside the form: the same rooms as the API's preflight, shown to people."""

from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST

from batches import codes, files, preflight, reserving
from batches.models import Batch, File
from batches.preflight import Cost, Report, Work
from batches.web.looks import cents
from batches.web.typed import Typed, typed
from billing import money, spending
from tenants.errors import Refused
from tenants.models import Tenant
from tenants.web.access import Role, Seat, seat

FIRST = 10  # lines named of each cause
MODELS = 50  # named; the others are summed up with them


class Cause(NamedTuple):
    """Lines that are bad in the same way."""

    code: str
    lines: int
    entries: list[dict[str, Any]]
    more: int
    cure: str


class Part(NamedTuple):
    """What the lines of a model, or all, ask for."""

    model: str
    lines: int
    unlimited: int
    input: int
    low: int
    high: int
    cost: str


@require_POST
@seat(Role.MEMBER, active=True)
def examine(request: HttpRequest, seat: Seat) -> HttpResponse:
    """A part of the page: the file, and what a batch of it would meet. Where too many are looked at, it asks again."""
    form = typed(request.POST)
    if not form.file_id:
        return HttpResponse(status=204)
    file = None
    try:
        file = files.input_of(seat.tenant, form.file_id, lock=False)
        context = _looked_at(seat.tenant, file, form)
    except Refused as refused:
        context = {"busy": True} if refused.status == 503 else {"refused": refused}
    return render(request, "batches/parts/preflight.html", {"file": file, **context})


def _looked_at(tenant: Tenant, file: File, form: Typed) -> dict[str, Any]:
    options = form.read()
    skips = options.columns["on_invalid_line"] == Batch.OnInvalidLine.SKIP
    asked = preflight.Asked(options.endpoint, skips, options.columns.get("max_cost"))
    report = preflight.examine(tenant, file.storage_key, file.lines, asked)
    return {
        "report": report,
        "verdict": _verdict(report),
        "skips": skips,
        "all": _part("", report.all),
        "parts": [_part(model, work) for model, work in list(report.models.items())[:MODELS]],
        "unlisted": max(len(report.models) - MODELS, 0),
        "causes": _causes(report),
        "waits": report.expected.reason.partition(": ")[2],
        **_funds(tenant, report),
    }


def _verdict(report: Report) -> str:
    if not report.starts:
        return "fails"
    if report.refused:
        return "refused"
    return "skips" if report.bad else "runs"


def _part(model: str, work: Work) -> Part:
    return Part(model, work.lines, work.unlimited, work.input, work.low, work.high, _cost(work.cost))


def _cost(cost: Cost | None) -> str:
    if cost is None:
        return "no price"
    low, high = usd(cost.low), usd(cost.high)
    return low if low == high else f"{low} to {high}"


def usd(pico: int) -> str:
    """For people: rounded up to what can be read, six decimals."""
    step = money.PICO // 10**6
    return cents(money.usd(-(-pico // step) * step))


def _causes(report: Report) -> list[Cause]:
    found, known = report.findings.causes(FIRST), codes.documented(codes.BATCHES)
    return [Cause(code, count, kept, count - len(kept), known[code].cure) for code, count, kept in found]


def _funds(tenant: Tenant, report: Report) -> dict[str, str]:
    """What the batch would hold, and what is left of credits and of the month's limit."""
    terms = spending.terms(tenant.pk)
    if not terms.limited or not report.starts:
        return {}
    funds = spending.funds(tenant.pk, terms, reserving.running(tenant.pk).held)
    shown = {"reserved": usd(report.reserved)}
    if funds.balance is not None:
        shown["credits"] = usd(max(funds.balance - funds.held, 0))
    if funds.limit is not None:
        shown["month"] = usd(max(funds.limit - funds.charged - funds.held, 0))
    return shown
