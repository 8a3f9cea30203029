"""Entries of a tenant's ledger, found: those of one kind or reference, and those after another one."""

from django.db.models import Q, QuerySet

from billing import statement
from billing.ledger import Kind
from billing.models import LedgerEntry
from tenants.errors import Refused


def of_tenant(tenant: int, kind: str | None, reference: str | None, after: str | None) -> QuerySet[LedgerEntry]:
    """Newest first, with the invoices that they are on; None does not ask. Raises Refused 400 and 404."""
    rows = mine = LedgerEntry.objects.filter(tenant=tenant)
    if kind is not None:
        if kind not in Kind.values:
            raise Refused(400, "invalid_kind", f"kind must be one of {', '.join(Kind.values)}.", param="kind")
        rows = rows.filter(kind=kind)
    if reference is not None:
        rows = rows.filter(kind__in=Kind, reference__in=statement.references(reference))  # so the index finds them
    if after:
        place = found(mine, after)
        rows = rows.filter(Q(created_at__lt=place.created_at) | Q(created_at=place.created_at, pk__lt=place.pk))
    return rows.select_related("invoiced__invoice").order_by("-created_at", "-pk")


def name(entry: LedgerEntry) -> str:
    """Its id: kind and reference are unique."""
    return f"{entry.kind}:{entry.reference}"


def found(rows: QuerySet[LedgerEntry], entry_id: str) -> LedgerEntry:
    """The one of these with this id; a foreign one answers as one that does not exist. Raises Refused 404."""
    kind, _, reference = entry_id.replace("\x00", "").partition(":")
    entry = rows.filter(kind=kind, reference=reference).first()
    if entry is None:
        raise Refused(404, "entry_not_found", "There is no entry with this id.", param="after")
    return entry
