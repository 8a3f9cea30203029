"""The money in the console and in its commands: whoever moves it is on the trail, and it adds up to the last pico."""

import json
from datetime import date
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError

from billing import corrections, customers, invoicing, ledger, prices, reconciling
from billing.ledger import Account, Kind
from billing.models import Invoice, LedgerEntry, Price
from tenants import trail
from tenants.models import AuditEvent
from tests.conftest import Person
from tests.test_invoices import at, charge, taken

USD = 10**12
OCTOBER = date(2026, 10, 1)
__all__ = ["at"]  # a fixture


def events(*actions: str) -> list[tuple[str, str, str, Any]]:
    """The trail, oldest first: of these actions, or all of it."""
    rows = AuditEvent.objects.filter(action__in=actions) if actions else AuditEvent.objects.all()
    return list(rows.order_by("pk").values_list("actor", "action", "target", "details"))


def holdings(person: Person) -> tuple[int, int]:
    """What it owes, and its credits."""
    return ledger.balance(person.tenant.pk, Account.RECEIVABLE), ledger.balance(person.tenant.pk, Account.CREDITS)


def adds_up() -> bool:
    return not [*reconciling.ledger_findings(), *reconciling.invoice_findings()]


@pytest.fixture
def october(owner: Person, at: Any) -> Invoice:
    """A month of 10.000000000001 USD, closed."""
    at(2026, 10, 5)
    charge(owner, "batch_1", taken("m", date(2026, 10, 5), 10 * USD + 1))
    at(2026, 11, 2)
    [invoice] = invoicing.close_all()
    return invoice


def test_what_commands_do_with_money_is_on_the_trail(owner: Person, at: Any, capsys: Any) -> None:
    call_command("price", "set", "m", "--input", "1", "--output", "2")
    call_command("price", "set", "m", "--input", "1", "--output", "3", "--cached-input", "0.5")
    at(2026, 10, 5)
    call_command("credit", "grant", "owner", "2.50", "--reference", "welcome", "--note", "hello")
    call_command("credit", "grant", "owner", "2.50", "--reference", "welcome", "--note", "hello")
    charge(owner, "batch_1", taken("m", date(2026, 10, 5), 10 * USD))
    call_command("ledger", "correct", "batch_charge", "batch_1", "--note", "wrong model")
    charge(owner, "batch_2", taken("m", date(2026, 10, 6), 7 * USD))
    at(2026, 11, 2)
    call_command("invoice", "close")
    invoice = Invoice.objects.get()
    call_command("invoice", "write-off", invoice.public_id, "--note", "bankrupt")
    call_command("invoice", "pay", invoice.public_id, "--note", "wire")
    once = {"input_usd": "1", "cached_input_usd": "1", "output_usd": "2", "discount": "50%"}
    again = {"input_usd": "1", "cached_input_usd": "0.5", "output_usd": "3", "discount": "50%"}
    of_month = {"month": "2026-10", "usd": "4.50"}
    assert events() == [
        ("operator", "price.created", "m", {"before": {}, "after": once}),
        ("operator", "price.created", "m", {"before": once, "after": again}),
        ("operator", "credit.created", "welcome", {"kind": "Credits given", "usd": "2.5", "note": "hello"}),
        ("operator", "ledger.corrected", "batch_charge:batch_1",
         {"usd": "10", "along": ["credit_use batch_1: 2.5 USD"], "reason": "wrong model"}),
        ("operator", "invoice.created", invoice.public_id, of_month),
        ("operator", "invoice.written_off", invoice.public_id, {**of_month, "reason": "bankrupt"}),
        ("operator", "invoice.paid", invoice.public_id, {**of_month, "reason": "wire"}),
    ]  # fmt: skip
    assert [json.loads(line)["posted"] for line in capsys.readouterr().out.splitlines() if "posted" in line] == [
        True,
        False,
    ]
    tenants = list(AuditEvent.objects.order_by("pk").values_list("tenant", flat=True))
    assert tenants == [None, None] + [owner.tenant.pk] * 5 and adds_up()


def test_months_that_are_closed_by_themselves_say_so(owner: Person, october: Invoice) -> None:
    assert [row[:3] for row in events()] == [("service", "invoice.created", october.public_id)]


def test_no_money_moves_without_its_event(owner: Person, october: Invoice, monkeypatch: Any) -> None:
    """One transaction holds both."""

    def full(*args: Any, **details: Any) -> None:
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(trail, "record", full)
    before = LedgerEntry.objects.count()
    for act in (
        lambda: customers.give(owner.tenant.pk, USD, "welcome"),
        lambda: corrections.take_back("batch_charge", "batch_1", "x"),
        lambda: invoicing.pay(october, "wire"),
        lambda: invoicing.write_off(october, "bankrupt"),
        lambda: prices.set_price("m", "1", "2"),
    ):
        with pytest.raises(DatabaseError):
            act()
    assert LedgerEntry.objects.count() == before and not Price.objects.exists()
    assert Invoice.objects.get().status == "open" and holdings(owner) == (10 * USD, 0)


def test_what_follows_something_else_is_not_taken_back(owner: Person, october: Invoice) -> None:
    invoicing.pay(october, "wire")
    for kind in (Kind.PAYMENT, Kind.ROUNDING):
        with pytest.raises(corrections.NotCorrectable, match="follows what becomes of its invoice"):
            corrections.take_back(kind, october.public_id, "x")
    [correction] = corrections.take_back("batch_charge", "batch_1", "x")
    with pytest.raises(corrections.NotCorrectable, match="A correction is not taken back"):
        corrections.take_back(Kind.CORRECTION, correction.reference, "x")
    assert adds_up()
