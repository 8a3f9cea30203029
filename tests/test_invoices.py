"""A month is closed once, with each of its entries on one invoice, and rounded once."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from billing import corrections, invoicing, ledger, money
from billing.ledger import Account, Kind, Taken
from billing.models import Invoice, InvoicedEntry, LedgerEntry
from tenants import clock
from tests.conftest import Person
from tests.core import searched
from tests.test_ledger import race

pytestmark = pytest.mark.postgres_first

OCTOBER, NOVEMBER, DECEMBER = date(2026, 10, 1), date(2026, 11, 1), date(2026, 12, 1)
USD = 10**12


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set the clock to a moment."""

    def set_clock(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> None:
        monkeypatch.setattr(clock, "now", lambda: datetime(year, month, day, hour, minute, tzinfo=UTC))

    return set_clock


def charge(person: Person, batch: str, *parts: Taken) -> None:
    with transaction.atomic():
        ledger.charge_batch(person.tenant.pk, batch, sum(part.cost for part in parts), parts)


def invoiced(person: Person) -> Invoice:
    """An invoice of October with all that the person's ledger has."""
    invoice = Invoice.objects.create(tenant=person.tenant, month=OCTOBER, due=0, cents=0)
    entries = LedgerEntry.objects.filter(tenant=person.tenant, invoiced=None)
    InvoicedEntry.objects.bulk_create(
        InvoicedEntry(entry=entry, invoice=invoice, tenant_id=invoice.tenant_id) for entry in entries
    )
    return invoice


def taken(model: str, day: date, pico: int) -> Taken:
    return Taken(model, day, 1, 10, 2, 5, pico)


def test_a_month_is_closed_by_model_and_day_and_rounded_once(owner: Person, outsider: Person, at: Any) -> None:
    at(2026, 10, 30, 23, 59)
    charge(owner, "batch_1", taken("a", date(2026, 10, 29), 1_000), taken("a", date(2026, 10, 30), 20))
    charge(owner, "batch_2", taken("b", date(2026, 10, 30), USD + 4), taken("a", date(2026, 10, 30), 3))
    charge(outsider, "batch_3", taken("a", date(2026, 10, 30), USD))
    at(2026, 11, 1, 0, 0)
    charge(owner, "batch_4", taken("a", date(2026, 10, 31), 7))
    with pytest.raises(invoicing.NotOver):
        invoicing.close(owner.tenant.pk, NOVEMBER)
    mine, theirs = invoicing.close_all()
    assert (mine.due, mine.cents, theirs.due, theirs.cents) == (USD + 1_027, 100, USD, 100)
    assert [(line.day.day, line.model, line.requests, line.amount) for line in invoicing.lines(mine)] == [
        (29, "a", 1, 1_000),
        (30, "a", 2, 23),
        (30, "b", 1, USD + 4),
    ]
    assert sum(line.amount for line in invoicing.lines(mine)) == mine.due
    assert ledger.balance(owner.tenant.pk, Account.RECEIVABLE) == USD + 7
    assert invoicing.close_all() == []
    at(2026, 12, 1)
    [november] = invoicing.close_all()
    assert [entry.reference for entry in invoicing.entries(november)] == ["batch_4"]
    assert (november.due, november.cents, november.status) == (7, 0, "paid")
    assert ledger.balance(owner.tenant.pk, Account.RECEIVABLE) == USD


def test_what_comes_late_is_on_the_next_invoice(owner: Person, at: Any) -> None:
    at(2026, 10, 5)
    charge(owner, "batch_1", taken("a", date(2026, 10, 5), USD))
    at(2026, 11, 1)
    [october] = invoicing.close_all()
    at(2026, 10, 31)  # committed after the month was closed
    charge(owner, "batch_2", taken("a", date(2026, 10, 31), 2 * USD))
    at(2026, 11, 2)
    assert invoicing.close_all() == []
    at(2026, 12, 1)
    [november] = invoicing.close_all()
    assert (november.month, november.cents) == (NOVEMBER, 200)
    assert [invoice.cents for invoice in Invoice.objects.order_by("pk")] == [october.cents, 200]


def test_credits_and_corrections_are_on_the_invoice(owner: Person, at: Any) -> None:
    at(2026, 10, 5)
    ledger.post(owner.tenant.pk, Kind.CREDIT_GRANT, "welcome", 4 * USD)
    charge(owner, "batch_1", taken("a", date(2026, 10, 5), 10 * USD))
    at(2026, 11, 3)
    [october] = invoicing.close_all()
    assert [(entry.kind, entry.owed) for entry in invoicing.entries(october)] == [
        ("credit_grant", 0),
        ("batch_charge", 10 * USD),
        ("credit_use", -4 * USD),
    ]
    assert (october.due, october.cents) == (6 * USD, 600)
    ledger.correct(LedgerEntry.objects.get(kind="batch_charge"), "It never ran.")
    at(2026, 12, 3)
    [november] = invoicing.close_all()
    assert (november.due, november.cents, november.status) == (0, 0, "paid")
    assert ledger.balance(owner.tenant.pk, Account.CREDITS) == 10 * USD
    assert ledger.balance(owner.tenant.pk, Account.RECEIVABLE) == 6 * USD


def test_what_is_taken_back_of_an_earlier_month_makes_no_room_in_this_one(owner: Person, at: Any) -> None:
    at(2026, 10, 31, 23, 59)
    charge(owner, "batch_1", taken("a", date(2026, 10, 31), 10 * USD))
    at(2026, 11, 1)
    charge(owner, "batch_2", taken("a", NOVEMBER, 3 * USD))
    charge(owner, "batch_3", taken("a", NOVEMBER, USD))
    for batch in ("batch_1", "batch_3"):
        corrections.take_back("batch_charge", batch, "wrong model")
    assert ledger.charged_since(owner.tenant.pk, NOVEMBER) == 3 * USD
    assert ledger.charged_since(owner.tenant.pk, OCTOBER) == 3 * USD


def test_what_was_written_off_is_not_given_back_on_top(owner: Person, at: Any) -> None:
    at(2026, 10, 5)
    charge(owner, "batch_1", taken("a", date(2026, 10, 5), 10 * USD))
    at(2026, 11, 1)
    [invoice] = invoicing.close_all()
    invoicing.write_off(invoice, "wrong model")
    with pytest.raises(corrections.NotCorrectable, match="written off"):
        corrections.take_back("batch_charge", "batch_1", "wrong model")
    invoicing.pay(invoice, "bank")
    assert corrections.take_back("batch_charge", "batch_1", "wrong model")
    at(2026, 12, 1)
    invoicing.close_all()
    assert ledger.balance(owner.tenant.pk, Account.CREDITS) == 10 * USD


def test_sixteen_close_a_month_once(owner: Person, at: Any) -> None:
    at(2026, 10, 5)
    charge(owner, "batch_1", taken("a", date(2026, 10, 5), USD + money.CENT // 2))
    at(2026, 11, 1)
    made = race(16, lambda _: invoicing.close(owner.tenant.pk, OCTOBER))
    assert sum(invoice is not None for invoice in made) == Invoice.objects.count() == 1
    assert Invoice.objects.get().cents == 101
    assert LedgerEntry.objects.filter(kind="rounding").count() == 1


def test_an_invoice_is_settled_once_and_may_be_paid_after_all(owner: Person, at: Any) -> None:
    at(2026, 10, 5)
    charge(owner, "batch_1", taken("a", date(2026, 10, 5), USD))
    at(2026, 11, 1)
    [invoice] = invoicing.close_all()
    assert invoicing.write_off(invoice, "uncollectible")
    assert not invoicing.write_off(invoice, "again")
    assert ledger.balance(owner.tenant.pk, Account.RECEIVABLE) == 0
    paid = race(16, lambda _: invoicing.pay(Invoice.objects.get(), "bank"))
    assert sorted(paid) == [False] * 15 + [True]
    assert not invoicing.write_off(invoice, "no more")
    assert Invoice.objects.get().status == "paid"
    assert not invoicing.waiting(DECEMBER).exists(), "what undid the loss is no charge"
    assert {account: ledger.balance(owner.tenant.pk, account) for account in ("receivable", "cash", "loss")} == {
        "receivable": 0,
        "cash": -USD,
        "loss": 0,
    }


@given(st.integers(0, 10**30))
@searched
def test_the_one_rounding_is_to_the_nearest_cent(pico: int) -> None:
    off = money.cents(pico) * money.CENT - pico
    assert -money.CENT // 2 < off <= money.CENT // 2
