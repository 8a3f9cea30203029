"""Money adds up to the last digit, and where it does not, `reconcile` says where."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from copy import deepcopy
from datetime import date, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, OperationalError, transaction
from django.db.models import F, Sum, Value
from django.db.models.functions import Replace

from batches.models import Batch, Manifest, Result, Upstream, Usage
from billing import invoicing, ledger, money, prices
from billing import tasks as billing_tasks
from billing.ledger import Account, Kind
from billing.models import ChargeLine, Invoice, InvoicedEntry, LedgerEntry
from billing.stripe import checkout
from tenants import clock
from tests import crashes
from tests.conftest import Person, seal, unprotected
from tests.fakestripe import FakeStripe
from tests.stripes import deliver, month
from tests.test_engine import numbered, when
from tests.test_ledger import charge
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first

Work = Callable[..., None]
HALF = {
    "witness": (500_000_000, 250_000_000, 1_000_000_000),
    "other": (37_500_001, 37_500_001, 150_000_000),
}  # pico-USD a token


def reconcile(*options: str) -> list[dict[str, Any]]:
    """What the command says does not add up."""
    said = StringIO()
    try:
        call_command("reconcile", *options, stdout=said)
    except CommandError:
        return [json.loads(line) for line in said.getvalue().splitlines()]
    assert json.loads(said.getvalue()) == {"findings": 0}
    return []


@pytest.fixture
def next_month(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let this month be over for a week."""

    def jump() -> None:
        moment = clock.midnight(clock.following(clock.month())) + timedelta(days=7)
        monkeypatch.setattr(clock, "now", lambda: moment)

    return jump


def pico_of(output: list[dict[str, Any]]) -> int:
    """What the delivered lines of an output cost by their own usage."""
    total = 0
    for line in output:
        body = (line["response"] or {}).get("body") or {}
        if "usage" not in body or line["response"]["status_code"] != 200:
            continue
        usage, (fresh, cached, made) = body["usage"], HALF[body["model"]]
        held = min(usage.get("prompt_tokens_details", {}).get("cached_tokens", 0), usage["prompt_tokens"])
        total += (usage["prompt_tokens"] - held) * fresh + held * cached + usage["completion_tokens"] * made
    return total


def test_a_thousand_lines_with_faults_come_to_one_number_everywhere(
    owner: Person,
    witness: Witness,
    work: Work,
    stripe: FakeStripe,
    next_month: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where their price changes in the middle: a batch keeps those it began with."""
    monkeypatch.setattr("batches.core.retrying.BACKOFF_BASE", 0.2)
    Upstream.objects.create(model="other", base_url=witness.base_url, max_in_flight=32)
    prices.set_price("witness", "1000", "2000", "500")
    prices.set_price("other", "75.000002", "300")
    rates = {"500": 0.03, "503": 0.02, "429": 0.03, "reset": 0.02, "html": 0.01, "truncate": 0.02}
    witness.configure(fault_rates=rates, lasting_rates={"400": 0.02, "no-usage": 0.02, "cached-2": 0.3}, seed=11)
    lines = [request_line(str(n), custom_id=f"line:{n}", model=("witness", "other")[n % 3 == 0]) for n in range(1_000)]
    batch = owner.submit(lines).json()["id"]
    changed = when(300, lambda: [prices.set_price(model, "9", "9", discount=90) for model in HALF])
    work(stop=changed)
    done = owner.batch(batch)
    output = owner.lines(batch)
    assert (done["status"], len(output), done["completed_count"] > 900, done["failed_count"] > 5) == (
        *("completed", 1_000, True, True),
    )
    pico = pico_of(output)
    assert (done["cost"]["usd"], done["cost"]["discount"]) == (money.usd(pico), "0.5")
    assert Result.objects.aggregate(sum=Sum("cost"))["sum"] == pico
    assert LedgerEntry.objects.get().amount == ledger.balance(owner.tenant.pk, Account.RECEIVABLE) == pico
    usage = owner.get("/v1/usage?group_by=model").json()
    assert usage["totals"]["cost"]["usd"] == money.usd(pico)
    next_month()
    [invoice] = invoicing.close_all()
    assert invoice.due == sum(line.amount for line in invoicing.lines(invoice)) == pico
    page = checkout.setup(owner.tenant.pk, "https://a.example/", "https://a.example/")
    stripe.objects.complete(page["id"])  # the tenant leaves a card
    deliver(stripe)
    billing_tasks.send_invoices()
    [found] = stripe.objects.of("invoice")
    assert found["metadata"]["exact_usd"] == money.usd(pico)
    assert found["subtotal"] == invoice.cents == money.cents(pico) > 100
    stripe.objects.collect()
    assert set(deliver(stripe)) == {200}
    assert stripe.objects.charges == [(found["id"], invoice.cents)]
    assert (Invoice.objects.get().status, ledger.balance(owner.tenant.pk, Account.RECEIVABLE)) == ("paid", 0)
    assert reconcile() == []
    print(
        f"1,000 lines, {done['failed_count']} failed: {money.usd(pico)} USD in output, rows, batch, usage, ledger, invoice,"
        f" Stripe; {invoice.cents} cents on the invoice and at Stripe"
    )


@pytest.fixture
def closed(owner: Person, witness: Witness, work: Work, next_month: Callable[[], None]) -> Invoice:
    """A month that was closed and paid: two batches, credits that paid for a part, a correction."""
    prices.set_price("witness", "5000", "9000")
    ledger.post(owner.tenant.pk, Kind.CREDIT_GRANT, "welcome", money.CENT // 3)
    for lines in (numbered(3), [*numbered(2), request_line("bad", faults=["400"])]):
        assert owner.submit(lines).status_code == 200
    work()
    seal()
    next_month()
    mistake = ledger.post(owner.tenant.pk, Kind.CREDIT_GRANT, "mistake", money.CENT)
    assert mistake and ledger.correct(mistake, "posted twice")
    [invoice] = invoicing.close_all()
    assert invoice.cents > 10 and invoicing.pay(invoice, "bank transfer")
    assert reconcile() == []
    return Invoice.objects.get()


def entry(kind: str) -> Any:
    return LedgerEntry.objects.filter(pk=LedgerEntry.objects.filter(kind=kind).earliest("pk").pk)


def stray(kind: str, reference: str, tenant: int, amount: int) -> None:
    assert ledger.post(tenant, kind, reference, amount)


def lose_charge(*_: Any) -> None:
    charge = entry("batch_charge").get()
    InvoicedEntry.objects.filter(entry=charge)._raw_delete("default")
    charge.lines.all()._raw_delete("default")
    entry("batch_charge")._raw_delete("default")


PLANTED: dict[str, Callable[[Person, Person], Any]] = {
    "line_cost": lambda *_: Result.objects.filter(line=2).update(cost=F("cost") + 1),
    "results_completed": lambda *_: Result.objects.filter(line=1).delete(),
    "results_input_tokens": lambda *_: Batch.objects.update(input_tokens=F("input_tokens") - 1),
    "results_cost": lambda *_: Batch.objects.update(cost=F("cost") + 1),
    "usage_cost": lambda *_: Usage.objects.update(cost=F("cost") + 1),
    "usage_output_tokens": lambda *_: Usage.objects.update(output_tokens=0),
    "charge_lines_of_usage": lambda *_: Usage.objects.update(day=date(2020, 1, 1)),
    "not_charged": lose_charge,
    "charge": lambda *_: entry("batch_charge").update(amount=F("amount") + 1),
    "sla_credit": lambda *_: Batch.objects.update(sla_credit=5),
    "manifest_cost": lambda *_: Manifest.objects.update(
        signed=Replace("signed", Value('"cost_pico":'), Value('"cost_pico":1'))
    ),
    "charge_without_batch": lambda owner, _: stray("batch_charge", "batch_nobodys", owner.tenant.pk, 5),
    "charge_lines": lambda *_: ChargeLine.objects.update(amount=F("amount") * 2),
    "charge_line_elsewhere": lambda _, other: ChargeLine.objects.update(tenant=other.tenant),
    "accounts": lambda *_: entry("credit_use").update(credit=Account.CASH),
    "correction_differs": lambda *_: entry("correction").update(amount=1),
    "correction_of_nothing": lambda *_: entry("correction").update(reverses=None),
    "credits_overdrawn": lambda *_: entry("credit_use").update(amount=money.PICO),
    "credit_use_without_charge": lambda owner, _: stray("credit_use", "batch_nobodys", owner.tenant.pk, 1),
    "invoice_due": lambda *_: Invoice.objects.update(due=F("due") + 1),
    "invoice_cents": lambda *_: Invoice.objects.update(cents=F("cents") + 1),
    "rounding": lambda *_: entry("rounding")._raw_delete("default"),
    "rounding_without_invoice": lambda *_: entry("rounding").update(reference="inv_nobodys"),
    "payment_without_invoice": lambda owner, _: stray("payment", "inv_nobodys", owner.tenant.pk, 1),
    "settlement": lambda *_: Invoice.objects.update(status="void"),
    "entry_of_another_tenant": lambda _, other: Invoice.objects.update(tenant=other.tenant),
    "entry_after_month": lambda *_: Invoice.objects.update(month=date(2020, 1, 1)),
    "not_invoiced": lambda *_: (InvoicedEntry.objects.all()._raw_delete("default"), Invoice.objects.all().delete()),
}


def test_each_planted_error_is_named(closed: Invoice, owner: Person, outsider: Person) -> None:
    known = [*Batch.objects.values_list("public_id", flat=True), closed.public_id, "nobodys", "welcome", "mistake"]
    known.append("witness on")  # a charge's line
    for check, plant in PLANTED.items():
        with transaction.atomic():
            with unprotected():
                plant(owner, outsider)
            found = reconcile()
            transaction.set_rollback(True)
        assert check in {finding["check"] for finding in found}, (check, found)
        for finding in found:
            assert any(name in finding["where"] for name in known), finding
            assert finding["expected"] != finding["found"]
    assert reconcile() == []
    Batch.objects.update(cost=0)
    assert reconcile()
    assert not [finding for finding in reconcile("--since", "2999-01-01") if finding["check"] == "results_cost"]
    with pytest.raises(CommandError, match="write 2026-11-30"):
        call_command("reconcile", "--since", "2026-11")
    print(f"{len(PLANTED)} planted errors, each named")


AT_STRIPE: dict[str, Callable[[FakeStripe, Any], Any]] = {
    "cents_at_stripe": lambda _, found: found.update(subtotal=1),
    "exact_sum_at_stripe": lambda _, found: found["metadata"].update(exact_usd="1.1"),
    "status_at_stripe": lambda _, found: found.update(status="uncollectible"),
    "invoice_at_stripe": lambda stripe, found: stripe.objects.create_invoice(
        {"customer": found["customer"], "metadata": dict(found["metadata"])}
    ),
    "unknown_invoice_at_stripe": lambda _, found: found["metadata"].update(invoice="inv_nobodys"),
    "not_sent_to_stripe": lambda *_: Invoice.objects.update(
        sent_at=None, created_at=F("created_at") - timedelta(days=2)
    ),
}


def test_each_planted_error_at_stripe_is_named(owner: Person, stripe: FakeStripe) -> None:
    invoice = month(owner, ("a", 3 * money.PICO + 7))
    billing_tasks.send_invoices()
    [found] = stripe.objects.of("invoice")
    known = {item["check"] for item in reconcile()}  # charges here have no batch
    assert known == {"charge_without_batch"}
    for check, plant in AT_STRIPE.items():
        before, there = deepcopy(found), Invoice.objects.values("sent_at", "created_at").get()
        made = {each["id"] for each in stripe.objects.of("invoice")}
        plant(stripe, found)
        fresh = [item for item in reconcile() if item["check"] not in known]
        assert check in {item["check"] for item in fresh}, (check, fresh)
        assert all(invoice.public_id in item["where"] or "inv_nobodys" in item["where"] for item in fresh)
        for each in stripe.objects.of("invoice"):
            if each["id"] not in made:
                del stripe.objects.all[each["id"]]
        found.update(before)
        Invoice.objects.update(**there)
    print(f"{len(AT_STRIPE)} planted errors at Stripe, each named")


def test_racing_billers_that_are_killed_charge_each_batch_once(owner: Person) -> None:
    """Sixteen at a time, killed at random moments; whoever comes last finds what is left to do."""
    dice, references = random.Random(5), [f"batch_{number}" for number in range(60)]
    ledger.post(owner.tenant.pk, Kind.CREDIT_PURCHASE, "pi_1", 10_000)

    def bill() -> None:
        for reference in random.sample(references, len(references)):
            try:
                charge(owner.tenant.pk, reference, 1_000)
            except (IntegrityError, OperationalError):  # another was quicker, or the database is busy
                continue

    killed = 0
    for _ in range(2):
        pids = [crashes.fork(bill) for _ in range(16)]
        for pid in pids[:12]:
            time.sleep(dice.uniform(0, 0.05))  # the random moments
            os.kill(pid, signal.SIGKILL)
        ends = [crashes.end(pid) for pid in pids]
        assert set(ends) <= {0, -signal.SIGKILL}
        killed += sum(end < 0 for end in ends)
    charged = LedgerEntry.objects.filter(kind=Kind.BATCH_CHARGE)
    early = charged.count()
    bill()
    assert sorted(charged.values_list("reference", flat=True)) == sorted(references)
    assert ChargeLine.objects.count() == len(references)
    assert ledger.balance(owner.tenant.pk, Account.CREDITS) == 0
    assert ledger.balance(owner.tenant.pk, Account.RECEIVABLE) == len(references) * 1_000 - 10_000
    print(f"{killed} of 32 billers killed, {early} of {len(references)} batches charged by then, each once")
