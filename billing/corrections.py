"""Taking back what was posted: by new entries, never by a change."""

from django.db import transaction

from billing import ledger
from billing.ledger import Account, Kind
from billing.models import Invoice, InvoicedEntry, LedgerEntry
from tenants import admission

CREDITS = (Kind.SLA_CREDIT, Kind.CREDIT_GRANT, Kind.CREDIT_PURCHASE)
KINDS = (Kind.BATCH_CHARGE, *CREDITS)  # that an operator may take back: an invoice's own entries follow its status
ALONG = (Kind.CREDIT_USE, Kind.SLA_CREDIT)  # with a charge, in this order: credits come back before others go


class NotCorrectable(ValueError):
    """There is no such entry, it was taken back before, or its credits are spent."""


def take_back(kind: str, reference: str, note: str) -> list[LedgerEntry]:
    """Reverse the entry; with a batch's charge also the credits that paid for it, which come back, and those that its
    lateness brought. In one transaction, or not at all. Raises NotCorrectable."""
    entry = LedgerEntry.objects.filter(kind=kind, reference=reference).first()
    if entry is None:
        raise NotCorrectable(f"There is no entry {kind} of {reference}.")
    with transaction.atomic():
        admission.lock(entry.tenant_id)
        if kind == Kind.BATCH_CHARGE and _is_written_off(entry):
            cure = "Where credits paid for a part of it, grant these."
            raise NotCorrectable(f"{reference} is on an invoice that was written off: nothing is owed for it. {cure}")
        if kind in CREDITS and ledger.balance(entry.tenant_id, Account.CREDITS) < entry.amount:
            raise NotCorrectable(f"Not all credits of {reference} are left: correct first what they paid for.")
        made = [ledger.correct(entry, note)]
        if made == [None]:
            raise NotCorrectable(f"{kind} of {reference} was corrected before.")
        if kind == Kind.BATCH_CHARGE:
            along = {other.kind: other for other in LedgerEntry.objects.filter(kind__in=ALONG, reference=reference)}
            made += [ledger.correct(along[other], note) for other in ALONG if other in along]
    return [correction for correction in made if correction]


def _is_written_off(charge: LedgerEntry) -> bool:
    """Its reverse would become credits, of what was never paid. Under the tenant's lock, as a write-off is."""
    return InvoicedEntry.objects.filter(entry=charge, invoice__status=Invoice.Status.VOID).exists()
