"""`manage.py reconcile`: results, charges, ledger and invoices against each other; each thing that does not add up."""

import itertools
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from batches import reconciling
from billing.reconciling import invoice_findings, ledger_findings


class Command(BaseCommand):
    help = "Compare results, charges, the ledger and invoices: one line of JSON for each that does not add up."

    def handle(self, *args: Any, **options: Any) -> None:
        count = 0
        for finding in itertools.chain(reconciling.findings(), ledger_findings(), invoice_findings()):
            self.stdout.write(json.dumps(finding._asdict(), default=str))
            count += 1
        if count:
            raise CommandError(f"{count} things do not add up; amounts are pico-USD (10^-12).")
        self.stdout.write(json.dumps({"findings": 0}))
