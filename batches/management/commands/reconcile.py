"""`manage.py reconcile`: results, charges, ledger, invoices and Stripe against each other; what does not add up."""

import itertools
import json
from collections.abc import Iterator
from datetime import date
from typing import Any

from django.core.management.base import CommandError, CommandParser

from batches import reconciling
from billing.reconciling import Finding, invoice_findings, ledger_findings
from billing.stripe import client, comparing
from tenants.management.console import DocumentCommand, day


class Command(DocumentCommand):
    help = "Compare results, charges, ledger, invoices and Stripe: one line of JSON for each that does not add up."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", type=day, metavar="YYYY-MM-DD", help="Of batches, those alone that ended since.")

    def handle(self, *args: Any, since: date | None, **options: Any) -> None:
        count = 0
        try:
            for finding in _all(since):
                self.stdout.write(json.dumps(finding._asdict(), default=str))
                count += 1
        except client.Failed as failed:
            raise CommandError(f"Stripe can't be asked, {count} things that do not add up so far: {failed}") from None
        if count:
            raise CommandError(f"{count} things do not add up; amounts are pico-USD (10^-12).")
        self.stdout.write(json.dumps({"findings": 0}))


def _all(since: date | None) -> Iterator[Finding]:
    at_stripe = comparing.findings() if client.configured() else ()
    return itertools.chain(reconciling.findings(since), ledger_findings(), invoice_findings(), at_stripe)
