"""The ledger: append-only in the database itself, each thing posted once, credits that are never spent twice."""

from collections.abc import Callable
from datetime import date
from threading import Barrier
from typing import Any

import pytest
from django.db import DatabaseError, close_old_connections, connection, connections, transaction

from billing import invoicing, ledger
from billing.ledger import Account, Kind, Taken
from billing.models import ChargeLine, Invoice, InvoicedEntry, LedgerEntry
from tenants import admission
from tests.conftest import Person
from tests.threads import ThreadPoolExecutor

DAY = date(2026, 11, 28)
USD = 10**12


def charge(tenant: int, batch: str, pico: int, sla_credit: int = 0) -> bool:
    with transaction.atomic():
        return ledger.charge_batch(tenant, batch, pico, [Taken("m", DAY, 1, 10, 2, 5, pico)], sla_credit)


def holdings(tenant: int) -> dict[str, int]:
    return {account: ledger.balance(tenant, account) for account in Account if ledger.balance(tenant, account)}


def test_the_database_refuses_to_change_or_remove(owner: Person) -> None:
    charge(owner.tenant.pk, "batch_1", USD)
    entry = LedgerEntry.objects.get()
    invoice = Invoice.objects.create(tenant=owner.tenant, month=DAY.replace(day=1), due=USD, cents=100)
    InvoicedEntry.objects.create(entry=entry, invoice=invoice, tenant_id=invoice.tenant_id)
    for rows, change in (
        (LedgerEntry.objects.all(), {"amount": 0}),
        (ChargeLine.objects.all(), {"amount": 0}),
        (InvoicedEntry.objects.all(), {"invoice": invoice}),
    ):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            rows.update(**change)
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            rows._raw_delete("default")
        if connection.vendor == "postgresql":
            with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"TRUNCATE {rows.model._meta.db_table} CASCADE")
    assert holdings(owner.tenant.pk) == {"receivable": USD, "revenue": USD}


@pytest.mark.parametrize(
    "wrong", [{"amount": -1}, {"credit": Account.RECEIVABLE}, {"kind": Kind.BATCH_CHARGE, "reference": "batch_1"}]
)
def test_the_database_refuses_what_would_not_balance_or_is_there(owner: Person, wrong: dict[str, Any]) -> None:
    charge(owner.tenant.pk, "batch_1", USD)
    columns = {"kind": Kind.PAYMENT, "reference": "x", "amount": 1, "debit": Account.RECEIVABLE, "credit": Account.CASH}
    with pytest.raises(DatabaseError), transaction.atomic():
        LedgerEntry.objects.create(tenant=owner.tenant, **columns | wrong)


def test_a_correction_is_a_new_entry_and_is_made_once(owner: Person) -> None:
    charge(owner.tenant.pk, "batch_1", 3 * USD)
    entry = LedgerEntry.objects.get()
    correction = ledger.correct(entry, "The model was misconfigured.")
    assert correction is not None and correction.reverses == entry and correction.owed == -entry.owed
    assert ledger.correct(entry, "again") is None
    assert holdings(owner.tenant.pk) == {}
    assert ledger.charged_since(owner.tenant.pk, date(2020, 1, 1)) == 0


def test_credits_pay_first_and_no_further_than_they_go(owner: Person, outsider: Person) -> None:
    ledger.post(owner.tenant.pk, Kind.CREDIT_PURCHASE, "pi_1", 5 * USD)
    charge(owner.tenant.pk, "batch_1", 2 * USD)
    assert holdings(owner.tenant.pk) == {"credits": 3 * USD, "revenue": 2 * USD, "cash": -5 * USD}
    charge(owner.tenant.pk, "batch_2", 4 * USD)
    charge(outsider.tenant.pk, "batch_3", USD)
    assert holdings(owner.tenant.pk) == {"receivable": USD, "revenue": 6 * USD, "cash": -5 * USD}
    assert holdings(outsider.tenant.pk) == {"receivable": USD, "revenue": USD}


def test_sums_are_exact_beyond_64_bits(owner: Person) -> None:
    most = 2**63 - 1
    for number in range(12):
        ledger.post(owner.tenant.pk, Kind.CREDIT_PURCHASE, f"pi_{number}", most)
        charge(owner.tenant.pk, f"batch_{number}", most - number)
    assert holdings(owner.tenant.pk) == {"credits": 66, "revenue": 12 * most - 66, "cash": -12 * most}
    assert ledger.charged_since(owner.tenant.pk, DAY.replace(day=1)) == 12 * most - 66
    invoice = Invoice.objects.create(tenant=owner.tenant, month=DAY.replace(day=1), due=0, cents=0)
    entries = LedgerEntry.objects.all()
    InvoicedEntry.objects.bulk_create(
        InvoicedEntry(entry=entry, invoice=invoice, tenant_id=invoice.tenant_id) for entry in entries
    )
    assert [line.amount for line in invoicing.lines(invoice)] == [12 * most - 66]
    assert sum(part.owed for part in invoicing.parts(invoice).values()) == 0
    assert invoicing.parts(invoice)["batch_charge"].owed == 12 * most - 66


def test_a_late_batch_is_credited_at_once(owner: Person) -> None:
    charge(owner.tenant.pk, "batch_1", 4 * USD, sla_credit=USD)
    assert holdings(owner.tenant.pk) == {"receivable": 3 * USD, "revenue": 4 * USD, "goodwill": -USD}


def test_a_free_batch_is_charged_nothing_once(owner: Person) -> None:
    assert charge(owner.tenant.pk, "batch_1", 0)
    assert not charge(owner.tenant.pk, "batch_1", 0)
    assert LedgerEntry.objects.get().amount == 0


def race(racers: int, act: Callable[[int], Any]) -> list[Any]:
    def run(number: int) -> Any:
        close_old_connections()
        try:
            return act(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(racers) as threads:
        return list(threads.map(run, range(racers)))


def test_sixteen_billers_charge_a_batch_once(owner: Person) -> None:
    ledger.post(owner.tenant.pk, Kind.CREDIT_GRANT, "welcome", USD)
    charged = race(16, lambda _: charge(owner.tenant.pk, "batch_1", 3 * USD))
    assert sorted(charged) == [False] * 15 + [True]
    assert ChargeLine.objects.count() == 1
    assert holdings(owner.tenant.pk) == {"receivable": 2 * USD, "revenue": 3 * USD, "goodwill": -USD}


def test_racing_charges_spend_no_credit_twice(owner: Person) -> None:
    spend(owner, 16)
    assert ledger.balance(owner.tenant.pk, Account.CREDITS) == 0


def test_without_the_lock_they_would(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("there the lock is the transaction itself")
    read_balances_together(monkeypatch, 6)
    spend(owner, 6)
    monkeypatch.undo()
    assert ledger.balance(owner.tenant.pk, Account.CREDITS) == -USD


def read_balances_together(monkeypatch: pytest.MonkeyPatch, racers: int) -> None:
    """Take the tenants' locks away, and have all racers read before one of them writes."""
    together, balance = Barrier(racers, timeout=20), ledger.balance

    def look(tenant: int, account: str) -> int:
        found = balance(tenant, account)
        together.wait()
        return found

    monkeypatch.setattr(admission, "lock", lambda tenant: None)
    monkeypatch.setattr(ledger, "balance", look)


def spend(person: Person, racers: int) -> None:
    """So many batches of 1 USD end at once, where there are credits of 5 USD."""
    ledger.post(person.tenant.pk, Kind.CREDIT_PURCHASE, "pi_1", 5 * USD)
    assert all(race(racers, lambda number: charge(person.tenant.pk, f"batch_{number}", USD)))
