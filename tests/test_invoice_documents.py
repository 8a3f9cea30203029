"""What a tenant reads of its invoices, and what an operator does with them: all sums add up, to the last pico."""

import csv
import io
import json
from contextlib import suppress
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django_q.models import Schedule

from batches import tasks
from billing import corrections, invoicing, ledger, money
from billing import tasks as billing_tasks
from billing.ledger import Account, Kind
from billing.models import Invoice, InvoicedEntry, LedgerEntry
from tests.conftest import Person
from tests.staff import confirmed
from tests.test_admin import staff
from tests.test_api import error
from tests.test_invoices import NOVEMBER, OCTOBER, USD, at, charge, taken
from tests.test_ledger import race, read_balances_together

pytestmark = pytest.mark.postgres_first

__all__ = ["at"]
DAY = date(2026, 10, 5)


def command(*words: str) -> list[dict[str, Any]]:
    out = io.StringIO()
    call_command(*words, stdout=out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def posted(person: Person, kind: str, reference: str, usd: int) -> None:
    assert ledger.post(person.tenant.pk, kind, reference, usd * USD)


@pytest.fixture
def october(owner: Person, at: Any) -> Invoice:
    """4 USD of credits, two batches of 10.304000001251 USD, and one that was corrected."""
    at(2026, 10, 5)
    posted(owner, Kind.CREDIT_GRANT, "welcome", 4)
    charge(owner, "batch_1", taken("org/a", DAY, 10 * USD), taken("b", DAY, 304 * 10**9))
    charge(owner, "batch_2", taken("org/a", DAY, 1_250), taken("org/a", date(2026, 10, 6), 1))
    charge(owner, "batch_3", taken("b", DAY, 5))
    corrections.take_back("batch_charge", "batch_3", "It was ours.")
    at(2026, 11, 1)
    [invoice] = invoicing.close_all()
    return invoice


def amounts(shown: list[dict[str, Any]]) -> Decimal:
    return sum((Decimal(each["amount_usd"]) for each in shown), Decimal())


# --- reading ----------------------------------------------------------------------------------------------------------


def test_lines_credits_and_corrections_come_to_what_is_due(owner: Person, october: Invoice) -> None:
    shown = owner.get(f"/v1/invoices/{october.public_id}").json()
    assert [(line["day"], line["model"], line["requests"]) for line in shown["lines"]] == [
        ("2026-10-05", "b", 2),
        ("2026-10-05", "org/a", 2),
        ("2026-10-06", "org/a", 1),
    ]
    sums = {name: Decimal(value) for name, value in shown["sums"].items()}
    assert amounts(shown["lines"]) == sums["charges_usd"]
    assert (sums["credits_used_usd"], sums["corrections_usd"]) == (Decimal(-4), Decimal("-0.000000000005"))
    assert sum(sums.values()) == Decimal(shown["total_usd"]) == Decimal("6.30")
    assert sum(sums.values()) - sums["rounding_usd"] == Decimal(shown["due_usd"]) == Decimal("6.304000001251")
    assert shown["entry_counts"] == {"batch_charge": 3, "correction": 1, "credit_grant": 1, "credit_use": 1}
    assert [(entry["kind"], entry["amount_usd"], entry["credits_usd"]) for entry in shown["entries"]] == [
        ("credit_grant", "0", "4"),
        ("correction", "-0.000000000005", "0"),
    ]
    assert shown["entries"][0]["note"] is None
    assert shown["month"] == "2026-10" and shown["payment_url"] is None and shown["settled_at"] is None


def test_the_entries_of_a_batch_are_found_with_what_reversed_them(owner: Person, october: Invoice) -> None:
    path = f"/v1/invoices/{october.public_id}"
    found = owner.get(f"{path}?reference=batch_3").json()["entries"]
    assert [entry["id"] for entry in found] == ["batch_charge:batch_3", "correction:batch_charge:batch_3"]
    assert amounts(found) == 0
    for unknown in ("batch_4", "", "%00", "batch_1%00"):
        assert owner.get(f"{path}?reference={unknown}").json()["entries"] == []


def test_all_entries_are_a_list(owner: Person, october: Invoice) -> None:
    path = f"/v1/invoices/{october.public_id}/entries"
    found, after = [], ""
    while True:
        page = owner.get(f"{path}?limit=2{after}").json()
        found += page["data"]
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert [entry["id"] for entry in found][::-1] == [
        "credit_grant:welcome",
        "batch_charge:batch_1",
        "credit_use:batch_1",
        "batch_charge:batch_2",
        "batch_charge:batch_3",
        "correction:batch_charge:batch_3",
    ]
    assert amounts(found) == Decimal(owner.get(f"/v1/invoices/{october.public_id}").json()["due_usd"])
    for after in ("batch_charge:batch_9", "%00", ":", "x"):
        assert error(owner.get(f"{path}?after={after}"), 404) == "entry_not_found"


def test_the_list_is_of_months(owner: Person, outsider: Person, october: Invoice, at: Any) -> None:
    at(2026, 11, 5)
    charge(owner, "batch_11", taken("a", NOVEMBER, USD))
    charge(outsider, "batch_12", taken("a", NOVEMBER, USD))
    at(2026, 12, 1)
    assert len(invoicing.close_all()) == 2
    first = owner.get("/v1/invoices?limit=1").json()
    assert [invoice["month"] for invoice in first["data"]] == ["2026-11"] and first["has_more"]
    second = owner.get(f"/v1/invoices?limit=1&after={first['last_id']}").json()
    assert [invoice["id"] for invoice in second["data"]] == [october.public_id] and not second["has_more"]
    for path in ("", "/entries", "/csv"):
        assert error(outsider.get(f"/v1/invoices/{october.public_id}{path}"), 404) == "invoice_not_found"
    assert error(outsider.get(f"/v1/invoices?after={october.public_id}"), 404) == "invoice_not_found"
    assert error(owner.get("/v1/invoices/inv%00"), 404) == "invoice_not_found"
    assert error(owner.get("/v1/invoices?month=2026-10"), 400) == "unsupported_parameter"


def test_the_csv_comes_to_the_total(owner: Person, october: Invoice) -> None:
    answer = owner.get(f"/v1/invoices/{october.public_id}/csv")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert [row["kind"] for row in rows] == ["charge"] * 3 + ["credits_used", "corrections", "rounding"]
    assert amounts(rows) == Decimal("6.30")
    assert f'filename="2026-10_{october.public_id}.csv"' in answer["Content-Disposition"]
    again = owner.get(f"/v1/invoices/{october.public_id}/csv", **{"If-None-Match": answer["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("model", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", 'a"b,c', "модель 模型 نموذج 🤖"])
def test_no_model_is_a_formula(owner: Person, at: Any, model: str) -> None:
    at(2026, 10, 5)
    charge(owner, "batch_1", taken(model, DAY, USD))
    at(2026, 11, 1)
    [invoice] = invoicing.close_all()
    content = owner.get(f"/v1/invoices/{invoice.public_id}/csv").content.decode()
    [row] = csv.DictReader(io.StringIO(content, newline=""))
    assert row["model"] == (f"'{model}" if model[0] in "=+-@\t\r" else model)


# --- commands ---------------------------------------------------------------------------------------------------------


def test_months_are_closed_by_command(owner: Person, outsider: Person, at: Any) -> None:
    at(2026, 10, 5)
    charge(owner, "batch_1", taken("a", DAY, USD))
    charge(outsider, "batch_2", taken("a", DAY, 2 * USD))
    at(2026, 11, 5)
    charge(owner, "batch_3", taken("a", DAY, 3 * USD))
    with pytest.raises(CommandError, match="has not ended"):
        command("invoice", "close", "--month", "2026-11")
    with pytest.raises(CommandError, match="no tenant"):
        command("invoice", "close", "--tenant", "nobody")
    for month in ("2026-13", "2026", "x", "2026-1", "20261"):
        with pytest.raises(CommandError, match="is no month"):
            command("invoice", "close", "--month", month)
    [made] = command("invoice", "close", "--month", "2026-10", "--tenant", "owner")
    assert (made["tenant"], made["month"], made["total"], made["status"]) == ("owner", "2026-10", "1.00", "open")
    at(2026, 12, 1)
    assert command("invoice", "close", "--month", "2026-09") == []
    assert [(row["tenant"], row["month"], row["due"]) for row in command("invoice", "close")] == [
        ("owner", "2026-11", "3"),
        ("outsider", "2026-10", "2"),
    ]
    assert command("invoice", "close") == []
    assert [row["id"] for row in command("invoice", "list", "--tenant", "owner")].index(made["id"]) == 0
    assert len(command("invoice", "list")) == 3


def test_an_operator_settles_without_stripe(owner: Person, october: Invoice, settings: Any) -> None:
    with pytest.raises(CommandError, match="no invoice"):
        command("invoice", "pay", "inv_x", "--note", "wire")
    for note in ("", " ", "a\nb", "x" * 201):
        with pytest.raises(CommandError, match="printable"):
            command("invoice", "pay", october.public_id, "--note", note)
    with pytest.raises(CommandError, match="not set up"):
        command("invoice", "send", october.public_id)
    [row] = command("invoice", "write-off", october.public_id, "--note", "bankrupt")
    assert row["status"] == "void" and row["settled"]
    with pytest.raises(CommandError, match="not open"):
        command("invoice", "write-off", october.public_id, "--note", "again")
    [row] = command("invoice", "pay", october.public_id, "--note", "wire of 3 December")
    assert row["status"] == owner.get("/v1/invoices").json()["data"][0]["status"] == "paid"
    with pytest.raises(CommandError, match="before"):
        command("invoice", "pay", october.public_id, "--note", "again")
    assert ledger.balance(owner.tenant.pk, Account.RECEIVABLE) == 0
    settings.STRIPE_API_KEY = "sk_x"
    with pytest.raises(CommandError, match="not open"):
        command("invoice", "send", october.public_id)


def test_an_invoice_is_sent_again(october: Invoice, settings: Any) -> None:
    settings.STRIPE_API_KEY = "sk_x"
    command("invoice", "send", october.public_id)
    assert Invoice.objects.get().send_at is not None


def test_a_charge_is_taken_back_with_what_came_with_it(owner: Person) -> None:
    posted(owner, Kind.CREDIT_PURCHASE, "pi_1", 3)
    charge(owner, "batch_1", taken("a", DAY, 10 * USD))
    before = holdings(owner)
    assert before == {"receivable": 7 * USD, "credits": 0}
    with pytest.raises(CommandError, match="no entry"):
        command("ledger", "correct", "batch_charge", "batch_2", "--note", "x")
    with pytest.raises(CommandError, match=r"invalid choice.*'?batch_charge'?, '?sla_credit"):
        command("ledger", "correct", "payment", "inv_1", "--note", "x")
    made = command("ledger", "correct", "batch_charge", "batch_1", "--note", "wrong model")
    assert [row["reference"] for row in made] == ["batch_charge:batch_1", "credit_use:batch_1"]
    assert holdings(owner) == {"receivable": 0, "credits": 3 * USD}
    with pytest.raises(CommandError, match="before"):
        command("ledger", "correct", "batch_charge", "batch_1", "--note", "again")
    shown = command("ledger", "list", "owner")
    assert [row["kind"] for row in shown] == ["credit_purchase", "batch_charge", "credit_use"] + ["correction"] * 2
    assert shown[-1]["note"] == "wrong model" and shown[1]["amount"] == "10"


def test_credits_with_the_longest_reference_can_be_taken_back(owner: Person) -> None:
    for paid in ([], ["--paid"]):
        with pytest.raises(CommandError, match="at most 80"):
            command("credit", "grant", "owner", "5", "--reference", "r" * 81, *paid)
        command("credit", "grant", "owner", "5", "--reference", "r" * 80, *paid)
    for kind in ("credit_grant", "credit_purchase"):
        assert command("ledger", "correct", kind, "r" * 80, "--note", "x")
    assert holdings(owner)["credits"] == 0


def holdings(person: Person) -> dict[str, int]:
    return {account: ledger.balance(person.tenant.pk, account) for account in (Account.RECEIVABLE, Account.CREDITS)}


def test_a_charge_is_taken_back_once_by_racing_operators(owner: Person) -> None:
    posted(owner, Kind.CREDIT_PURCHASE, "pi_1", 3)
    charge(owner, "batch_1", taken("a", DAY, 10 * USD))

    def take_back(_: int) -> bool:
        try:
            return bool(corrections.take_back("batch_charge", "batch_1", "x"))
        except corrections.NotCorrectable:
            return False

    assert sum(race(8, take_back)) == 1
    assert holdings(owner) == {"receivable": 0, "credits": 3 * USD}


def take_back_and_spend(person: Person) -> None:
    """A grant is taken back as a batch spends it."""
    posted(person, Kind.CREDIT_GRANT, "welcome", 5)

    def act(number: int) -> None:
        if number:
            charge(person, "batch_1", taken("a", DAY, 5 * USD))
            return
        with suppress(corrections.NotCorrectable):
            corrections.take_back("credit_grant", "welcome", "x")

    race(2, act)


def test_credits_are_not_taken_back_as_they_are_spent(owner: Person) -> None:
    take_back_and_spend(owner)
    assert ledger.balance(owner.tenant.pk, Account.CREDITS) == 0


def test_without_the_lock_they_would(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("there the lock is the transaction itself")
    read_balances_together(monkeypatch, 2)
    take_back_and_spend(owner)
    monkeypatch.undo()
    assert ledger.balance(owner.tenant.pk, Account.CREDITS) == -5 * USD


# --- by itself --------------------------------------------------------------------------------------------------------


def test_the_daily_task_closes_what_has_ended_and_a_killed_one_goes_on(
    owner: Person, at: Any, monkeypatch: Any
) -> None:
    tasks.install_schedules()
    schedule = Schedule.objects.get(name="close_months")
    assert (schedule.func, schedule.schedule_type) == ("billing.tasks.close_months", Schedule.DAILY)
    for month in (9, 10, 11):
        at(2026, month, 5)
        charge(owner, f"batch_{month}", taken("a", DAY, USD))
    at(2026, 12, 1)
    total = invoicing._total

    def killed_at_october(invoice: Invoice, due: int) -> None:
        total(invoice, due)
        if invoice.month == OCTOBER:
            raise KeyboardInterrupt

    monkeypatch.setattr(invoicing, "_total", killed_at_october)
    with pytest.raises(KeyboardInterrupt):
        billing_tasks.close_months()
    assert [invoice.month.month for invoice in Invoice.objects.all()] == [9]
    monkeypatch.setattr(invoicing, "_total", total)
    for _ in range(2):
        billing_tasks.close_months()
    assert [(invoice.month.month, invoice.cents) for invoice in Invoice.objects.order_by("pk")] == [
        (9, 100),
        (10, 100),
        (11, 100),
    ]
    assert InvoicedEntry.objects.count() == 3


def test_years_without_anything_cost_nothing(owner: Person, at: Any, django_assert_max_num_queries: Any) -> None:
    at(2020, 1, 5)
    charge(owner, "batch_1", taken("a", DAY, USD))
    at(2020, 2, 1)
    assert len(invoicing.close_all()) == 1
    at(2026, 10, 5)
    with django_assert_max_num_queries(1):
        assert invoicing.close_all() == []
    charge(owner, "batch_2", taken("a", DAY, USD))
    at(2026, 11, 1)
    assert [invoice.month for invoice in invoicing.close_all()] == [OCTOBER]


# --- the admin --------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_only
def test_staff_settle_with_permission_alone(owner: Person, october: Invoice) -> None:
    path = "/admin/billing/invoice/"
    reader = staff("reader@example.com", "view_invoice")
    confirmed(reader, path, "mark_paid", october)
    assert Invoice.objects.get().status == "open"
    page = reader.get(f"{path}{october.pk}/change/").content.decode()
    assert "org/a" in page and "corrections -0.000000000005" in page and "credits used -4" in page
    clerk = staff("clerk@example.com", "view_invoice", "change_invoice")
    assert "Write off: done to 1 invoice." in confirmed(clerk, path, "write_off", october)
    assert "Mark as paid: done to 1 invoice." in confirmed(clerk, path, "mark_paid", october, reason="wire")
    assert Invoice.objects.get().status == "paid"
    assert "It is not open" in confirmed(clerk, path, "write_off", october)
    payment = LedgerEntry.objects.get(kind="payment")
    assert (payment.note, payment.amount) == ("wire", 630 * money.CENT)
