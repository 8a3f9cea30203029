"""Taking back what was posted: by new entries, never by a change."""

from collections.abc import Iterable
from typing import NamedTuple

from django.db import transaction

from billing import entries, ledger, money
from billing.ledger import Account, Kind
from billing.models import Invoice, LedgerEntry
from tenants import admission, clock, trail

CREDITS = (Kind.SLA_CREDIT, Kind.CREDIT_GRANT, Kind.CREDIT_PURCHASE)
KINDS = (Kind.BATCH_CHARGE, *CREDITS)  # that an operator may take back: an invoice's own entries follow its status
ALONG = (Kind.CREDIT_USE, Kind.SLA_CREDIT)  # with a charge, in this order: credits come back before others go
FINAL = "A correction is not taken back: give credits for what it took too much."
FOLLOWS = "An entry of this kind goes with its batch's charge, or follows what becomes of its invoice."
REACHED = ("tenant", "reversed_by", "invoiced__invoice")  # what `why_not` looks at


class NotCorrectable(ValueError):
    """There is no such entry, it was taken back before, or its credits are spent."""


class Effect(NamedTuple):
    """What taking entries back moves for a tenant, pico-USD."""

    owed: int = 0
    credits: int = 0
    charged: int = 0  # of this month (UTC), which is what a limit is measured by


def take_back(kind: str, reference: str, note: str, actor: str = trail.OPERATOR) -> list[LedgerEntry]:
    """Reverse the entry; with a batch's charge also the credits that paid for it, which come back, and those that its
    lateness brought. In one transaction with its event on the tenant's trail, or not at all. Raises NotCorrectable."""
    rows = LedgerEntry.objects.filter(kind=kind, reference=reference).select_related(*REACHED)
    entry = rows.first()
    if entry is None:
        raise NotCorrectable(f"There is no entry {kind} of {reference}.")
    with transaction.atomic():
        admission.lock(entry.tenant_id)
        entry = rows.get()  # as it is under the lock
        if why := why_not(entry):
            raise NotCorrectable(why)
        if kind in CREDITS and ledger.balance(entry.tenant_id, Account.CREDITS) < entry.amount:
            raise NotCorrectable(f"Not all credits of {reference} are left: correct first what they paid for.")
        made = [ledger.correct(each, note) for each in (entry, *along([entry]))]
        if made[0] is None:
            raise NotCorrectable(f"{kind} of {reference} was corrected before.")
        rest = [str(each.reverses) for each in made[1:] if each]
        usd = money.usd(entry.amount)
        trail.record(entry.tenant, actor, "ledger.corrected", entries.name(entry), usd=usd, along=rest, reason=note)
    return [correction for correction in made if correction]


def why_not(entry: LedgerEntry) -> str | None:
    """Why it can't be taken back; None: it can, as far as credits are left. No query, with what REACHED names. Under
    the tenant's lock, as a write-off is."""
    if entry.kind == Kind.CORRECTION:
        return FINAL
    if entry.kind not in KINDS:
        return FOLLOWS
    if hasattr(entry, "reversed_by"):
        return f"{entry.kind} of {entry.reference} was corrected before."
    if entry.kind == Kind.BATCH_CHARGE and _is_written_off(entry):
        cure = "Where credits paid for a part of it, grant these."
        return f"{entry.reference} is on an invoice that was written off: nothing is owed for it. {cure}"
    return None


def _is_written_off(charge: LedgerEntry) -> bool:
    """Its reverse would become credits, of what was never paid."""
    return hasattr(charge, "invoiced") and charge.invoiced.invoice.status == Invoice.Status.VOID


def along(taken: Iterable[LedgerEntry]) -> list[LedgerEntry]:
    """What is taken back with these: credits that paid for charges, then credits that their lateness brought."""
    charges = [entry.reference for entry in taken if entry.kind == Kind.BATCH_CHARGE]
    rows = LedgerEntry.objects.filter(kind__in=ALONG, reference__in=charges, reversed_by=None)
    return sorted(rows, key=lambda entry: (ALONG.index(Kind(entry.kind)), entry.pk))


def effects(taken: Iterable[LedgerEntry]) -> dict[int, Effect]:
    """What taking all of these back would move, by tenant. One query."""
    begin = clock.midnight(clock.month())
    chosen = list(taken)
    found: dict[int, Effect] = {}
    for entry in {entry.pk: entry for entry in (*chosen, *along(chosen))}.values():
        before = found.get(entry.tenant_id, Effect())
        charged = entry.amount if entry.kind == Kind.BATCH_CHARGE and entry.created_at >= begin else 0
        found[entry.tenant_id] = Effect(
            before.owed - entry.owed, before.credits - entry.credited, before.charged - charged
        )
    return found
