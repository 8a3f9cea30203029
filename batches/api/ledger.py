"""The tenant's account with the operator, entry by entry: /v1/ledger."""

from typing import Any

from django.db.models import Q
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from batches.api import fields, finding, paging
from batches.api.serializers import unix
from billing import money, statement
from billing.ledger import Kind
from billing.models import LedgerEntry
from tenants.authentication import tenant_of
from tenants.errors import Refused


@api_view(["GET", "HEAD"])
def entries(request: Request) -> Response:
    """The ledger's entries, newest first; all that concern one reference, with ?reference=."""
    fields.query(request, "limit", "after", "kind", "reference")
    limit = paging.limit(request)
    rows = mine = LedgerEntry.objects.filter(tenant=tenant_of(request))
    if (kind := request.query_params.get("kind")) is not None:
        if kind not in Kind.values:
            raise Refused(400, "invalid_kind", f"kind must be one of {', '.join(Kind.values)}.", param="kind")
        rows = rows.filter(kind=kind)
    if (reference := request.query_params.get("reference")) is not None:
        reference = "" if "\x00" in reference else reference
        rows = rows.filter(kind__in=Kind, reference__in=statement.references(reference))  # so the index finds them
    if after := request.query_params.get("after"):
        place = finding.entry(mine, after)
        rows = rows.filter(Q(created_at__lt=place.created_at) | Q(created_at=place.created_at, pk__lt=place.pk))
    rows = rows.select_related("invoiced__invoice").prefetch_related("lines")
    return paging.answer(rows.order_by("-created_at", "-pk"), limit, shown)


def shown(entry: LedgerEntry) -> dict[str, Any]:
    """An entry as the API shows it. Its kind and reference are unique, so they are its id."""
    on_invoice = getattr(entry, "invoiced", None)
    return {
        "id": f"{entry.kind}:{entry.reference}",
        "object": "ledger_entry",
        "kind": entry.kind,
        "reference": entry.reference,
        "amount_usd": money.usd(entry.owed),
        "moved_usd": money.usd(int(entry.amount)),
        "debit": entry.debit,
        "credit": entry.credit,
        "note": entry.note or None,
        "created_at": unix(entry.created_at),
        "invoice": on_invoice.invoice.public_id if on_invoice else None,
        "lines": [
            {
                "model": line.model,
                "day": line.day.isoformat(),
                "requests": line.requests,
                "input_tokens": line.input_tokens,
                "cached_tokens": line.cached_tokens,
                "output_tokens": line.output_tokens,
                "amount_usd": money.usd(int(line.amount)),
            }
            for line in sorted(entry.lines.all(), key=lambda line: (line.day, line.model))
        ],
    }
