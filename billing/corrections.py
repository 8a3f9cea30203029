"""Taking back what was posted: by new entries, never by a change."""

from django.db import transaction

from billing import ledger
from billing.ledger import Kind
from billing.models import LedgerEntry
from tenants import admission

ALONE = (Kind.SLA_CREDIT, Kind.CREDIT_GRANT, Kind.CREDIT_PURCHASE)
WITH_CHARGE = (Kind.BATCH_CHARGE, Kind.CREDIT_USE, Kind.SLA_CREDIT)
KINDS = (Kind.BATCH_CHARGE, *ALONE)  # that an operator may take back: an invoice's own entries follow its status


class NotCorrectable(ValueError):
    """There is no such entry, or it was taken back before."""


def take_back(kind: str, reference: str, note: str) -> list[LedgerEntry]:
    """Reverse the entry; with a batch's charge also the credits that paid for it, which come back, and those that its
    lateness brought. In one transaction, or not at all. Raises NotCorrectable."""
    entry = LedgerEntry.objects.filter(kind=kind, reference=reference).first()
    if entry is None:
        raise NotCorrectable(f"There is no entry {kind} of {reference}.")
    kinds = WITH_CHARGE if kind == Kind.BATCH_CHARGE else (kind,)
    with transaction.atomic():
        admission.lock(entry.tenant_id)
        first = ledger.correct(entry, note)
        if first is None:
            raise NotCorrectable(f"{kind} of {reference} was corrected before.")
        along = LedgerEntry.objects.filter(kind__in=kinds, reference=reference).exclude(pk=entry.pk).order_by("pk")
        made = [ledger.correct(other, note) for other in along]
    return [first, *(correction for correction in made if correction)]
