"""What an invoice says: how its sum comes about, and the same as CSV.

charges + credits used (negative) + corrections + carried over = due;  due + rounding = total
"""

import csv
import io
from collections.abc import Iterator

from django.db.models import QuerySet

from billing import invoicing, money
from billing.ledger import Kind
from billing.models import Invoice, LedgerEntry
from tenants.spreadsheet import plain

SUMS = {
    "charges": Kind.BATCH_CHARGE,
    "credits_used": Kind.CREDIT_USE,
    "corrections": Kind.CORRECTION,
    "carried_over": Kind.CARRIED,
}
COLUMNS = (
    "kind", "day", "model", "requests", "input_tokens", "cached_tokens", "output_tokens", "amount_usd",
)  # fmt: skip


def sums(invoice: Invoice, found: dict[str, invoicing.Part]) -> dict[str, int]:
    """Pico-USD by name, in the order of SUMS, then the rounding; all of them come to the invoice's total."""
    named = {name: found.get(kind, invoicing.NONE).owed for name, kind in SUMS.items()}
    return named | {"rounding": invoice.cents * money.CENT - invoice.due}


def others(invoice: Invoice) -> QuerySet[LedgerEntry]:
    """What is on it beside the charges, which are its lines, and the credits that paid for them."""
    return invoicing.entries(invoice).exclude(kind__in=(Kind.BATCH_CHARGE, Kind.CREDIT_USE))


def about(invoice: Invoice, reference: str) -> QuerySet[LedgerEntry]:
    """The entries for one thing, such as a batch, by its public id; and what reversed them."""
    return invoicing.entries(invoice).filter(kind__in=Kind, reference__in=references(reference))  # the index finds them


def references(reference: str) -> list[str]:
    """Of the entries for one thing, and of their corrections. PostgreSQL takes no NUL, and no row has one."""
    reference = "" if "\x00" in reference else reference
    return [reference, *(f"{kind}:{reference}" for kind in Kind)]


def as_csv(invoice: Invoice) -> str:
    """A row for each line, then one for each other sum that is not 0: the amounts come to the invoice's total."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows(_rows(invoice))
    return text.getvalue()


def _rows(invoice: Invoice) -> Iterator[tuple[object, ...]]:
    for line in invoicing.lines(invoice):
        tokens = (line.requests, line.input_tokens, line.cached_tokens, line.output_tokens)
        yield ("charge", line.day, plain(line.model), *tokens, money.usd(line.amount))
    for name, amount in sums(invoice, invoicing.parts(invoice)).items():
        if name != "charges" and amount:
            yield (name, "", "", "", "", "", "", money.usd(amount))
