"""`manage.py reconcile`: results, charges, ledger and invoices against each other; each thing that does not add up."""

import itertools
import json
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from batches import reconciling
from billing.reconciling import invoice_findings, ledger_findings


class Command(BaseCommand):
    help = "Compare results, charges, the ledger and invoices: one line of JSON for each that does not add up."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--since", type=date.fromisoformat, metavar="YYYY-MM-DD", help="Of batches, those alone that ended since."
        )

    def handle(self, *args: Any, since: date | None, **options: Any) -> None:
        count = 0
        for finding in itertools.chain(reconciling.findings(since), ledger_findings(), invoice_findings()):
            self.stdout.write(json.dumps(finding._asdict(), default=str))
            count += 1
        if count:
            raise CommandError(f"{count} things do not add up; amounts are pico-USD (10^-12).")
        self.stdout.write(json.dumps({"findings": 0}))
