"""The tenant's account with the operator, entry by entry: /v1/ledger."""

from typing import Any

from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from batches.api import fields, paging
from batches.api.serializers import unix
from billing import entries as posted
from billing import money
from billing.models import LedgerEntry
from tenants.authentication import tenant_of


@api_view(["GET", "HEAD"])
def entries(request: Request) -> Response:
    """The ledger's entries, newest first; all that concern one reference, with ?reference=."""
    fields.query(request, "limit", "after", "kind", "reference")
    limit = paging.limit(request)
    asked = (request.query_params.get(name) for name in ("kind", "reference", "after"))
    rows = posted.of_tenant(tenant_of(request).pk, *asked).prefetch_related("lines")
    return paging.answer(rows, limit, shown)


def shown(entry: LedgerEntry) -> dict[str, Any]:
    """An entry as the API shows it."""
    on_invoice = getattr(entry, "invoiced", None)
    return {
        "id": posted.name(entry),
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
