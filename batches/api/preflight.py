"""What would come of a file: looked at as a batch would, without one. Uploaded for it, or named."""

from typing import Any

from rest_framework.decorators import api_view, parser_classes
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from batches import files, intake, preflight, uploads
from batches.api import batches, fields, native, serializers
from batches.models import Batch
from batches.preflight import Cost, Report, Work
from billing import money
from tenants.authentication import tenant_of

FIRST = 10  # lines named of each code


@api_view(["POST"])
@parser_classes([MultiPartParser])
def upload(request: Request) -> Response:
    """Of the form that submits a batch. The file is gone afterwards, whatever happens."""
    fields.query(request)
    http = request._request
    uploads.check_length(http)
    received = uploads.receive(http)
    try:
        fields.only(http.POST, native.FIELDS)
        intake.read_metadata(http.POST.get("metadata"))
        stored = received.complete()
        return _answer(request, stored.key, stored.lines, http.POST)
    finally:
        received.discard()


@api_view(["POST"])
@parser_classes([fields.JSONFields])
def named(request: Request) -> Response:
    """Of an uploaded file, by its id."""
    fields.query(request)
    given = fields.body(request, *batches.FIELDS)
    batches.read(given)
    file = files.input_of(tenant_of(request), given["input_file_id"], lock=False)
    return _answer(request, file.storage_key, file.lines, given)


def _answer(request: Request, key: str, lines: int, given: Any) -> Response:
    endpoint = intake.read_endpoint(given.get("endpoint"))
    caps = fields.read_caps(given)
    skips = intake.read_on_invalid_line(given.get("on_invalid_line")) == Batch.OnInvalidLine.SKIP
    asked = preflight.Asked(endpoint, skips, caps.get("max_cost"))
    report = preflight.examine(tenant_of(request), key, lines, asked)
    return Response(_shown(report, endpoint))


def _shown(report: Report, endpoint: str) -> dict[str, Any]:
    everything = report.all
    counts = report.findings.counts
    return {
        "object": "batch.preflight",
        "valid": report.starts,
        "refused": {"code": report.refused.code, "message": report.refused.message} if report.refused else None,
        "endpoint": endpoint,
        "total_requests": report.total,
        "valid_count": everything.lines,
        "invalid_count": report.bad,
        "errors": {"object": "list", "data": report.findings.listed(), "counts": counts} if counts else None,
        "error_groups": report.findings.grouped(FIRST),
        **_work(everything),
        "models": [{"model": model, "lines": work.lines, **_work(work)} for model, work in report.models.items()],
        "shared_prefix": {
            "shared_tokens": report.shared_tokens,
            "share": round(report.shared / report.prompts, 4) if report.prompts else None,
        },
        "completion_window": "24h",
        "expires_at": serializers.unix(report.at + intake.WINDOW),
        "estimated_completion_at": serializers.unix(report.expected.at),
        "waiting_reason": serializers.waiting_reason(report.expected.reason),
    }


def _work(work: Work) -> dict[str, Any]:
    return {
        "lines_without_limit": work.unlimited,
        "input_tokens": work.input,
        "output_tokens": {"low": work.low, "high": work.high},
        "cost": _cost(work.cost),
    }


def _cost(cost: Cost | None) -> dict[str, str | None] | None:
    if cost is None:
        return None
    low, high = money.usd(cost.low), money.usd(cost.high)
    return {"low_usd": low, "high_usd": high, "currency": "usd", "discount": money.share(cost.discounts)}
