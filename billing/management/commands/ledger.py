"""`manage.py ledger list | correct`: a tenant's entries, and taking one back."""

from typing import Any

from django.core.management.base import CommandError

from billing import corrections, money
from billing.models import LedgerEntry
from tenants.management.console import VerbCommand, short_text, shown_time, tenant_named
from tenants.paging import by_pk

KINDS = [kind.value for kind in corrections.KINDS]  # as they are typed, also in what argparse says of a wrong one


class Command(VerbCommand):
    help = "The ledger: read a tenant's, take an entry back by a new one."

    def add_verbs(self) -> None:
        show = self.verb("list", self.show, "Print a tenant's entries, the oldest first.")
        show.add_argument("name", metavar="NAME")
        correct = self.verb("correct", self.correct, "Take an entry back; with a charge also what came with it.")
        correct.add_argument("kind", metavar="KIND", choices=KINDS, help=", ".join(KINDS))
        correct.add_argument("reference", metavar="REFERENCE", help="Such as a batch's id.")
        correct.add_argument("--note", type=short_text(200), required=True, help="Why: tenants read it.")

    def show(self, name: str) -> None:
        for entry in by_pk(LedgerEntry.objects.filter(tenant=tenant_named(name))):
            self.say(_shown(entry))

    def correct(self, kind: str, reference: str, note: str) -> None:
        try:
            made = corrections.take_back(kind, reference, note)
        except corrections.NotCorrectable as error:
            raise CommandError(str(error)) from None
        for correction in made:
            self.say(_shown(correction))


def _shown(entry: LedgerEntry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "reference": entry.reference,
        "debit": entry.debit,
        "credit": entry.credit,
        "amount": money.usd(entry.amount),
        "note": entry.note,
        "created": shown_time(entry.created_at),
    }
