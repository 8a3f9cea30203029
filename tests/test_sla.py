"""The promise of 24 hours: what is late is credited by itself, once; what was held back is promised nothing."""

import io
import json
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from batches import attainment, lifecycle, results, sweeping, tasks
from batches.attainment import Attainment
from batches.core import sla
from batches.core.states import Status
from batches.engine import runner
from batches.models import Batch
from billing import corrections, invoicing, ledger, money
from billing.ledger import Account
from billing.models import LedgerEntry
from provocative import environment
from tenants import clock
from tenants.models import Tenant
from tests.conftest import Person, step
from tests.test_invoices import at
from tests.test_ledger import race
from tests.test_web import make_batches
from tests.witness import Witness, request_line

__all__ = ["at"]
SECOND = timedelta(seconds=1)
MOMENT = datetime.fromisoformat("2026-11-28T12:00:00+00:00")


def submitted(person: Person, lines: int = 3, **fields: Any) -> Batch:
    answer = person.submit([request_line(str(n), custom_id=f"line:{n}", **fields) for n in range(lines)])
    return Batch.objects.get(public_id=answer.json()["id"])


def run(batch: Batch) -> None:
    """Up to its finalizing."""
    step("validating", tasks.validate)
    runner.run(stop=lambda: False, idle=0.21)
    batch.refresh_from_db()
    assert batch.status == Status.FINALIZING


def late(batch: Batch) -> None:
    Batch.objects.filter(pk=batch.pk).update(deadline=clock.now() - SECOND)


def ended(batch: Batch) -> Batch:
    step("finalizing", tasks.finalize)
    batch.refresh_from_db()
    return batch


def posted(batch: Batch) -> dict[str, int]:
    return dict(LedgerEntry.objects.filter(reference=batch.public_id).values_list("kind", "amount"))


# --- the rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "after", "held_back", "met"),
    [
        (Status.COMPLETED, timedelta(0), False, True),
        (Status.COMPLETED, timedelta(microseconds=1), False, False),
        (Status.COMPLETED, timedelta(microseconds=1), True, None),
        (Status.COMPLETED, -SECOND, True, None),
        (Status.EXPIRED, SECOND, False, False),
        (Status.EXPIRED, timedelta(0), False, False),
        (Status.EXPIRED, SECOND, True, None),
        (Status.CANCELLED, SECOND, False, None),
        (Status.FAILED, SECOND, False, None),
    ],
)
def test_what_is_promised(ending: Status, after: timedelta, held_back: bool, met: bool | None) -> None:
    assert sla.met(ending, MOMENT + after, MOMENT, held_back) is met


def test_a_share_is_rounded_down_to_a_pico() -> None:
    assert [sla.credit(False, cost, 50) for cost in (0, 1, 2, 3)] == [0, 0, 1, 1]
    assert (sla.credit(True, 100, 50), sla.credit(None, 100, 50)) == (0, 0)
    assert [sla.credit(False, 99, percent) for percent in (0, 33, 100)] == [0, 32, 99]


@pytest.mark.parametrize("wrong", ["-1", "101", "x", "50.5"])
def test_the_percent_is_one(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("PROVOCATIVE_SLA_CREDIT_PERCENT", wrong)
    with pytest.raises(Exception, match="PROVOCATIVE_SLA_CREDIT_PERCENT"):
        environment.number("PROVOCATIVE_SLA_CREDIT_PERCENT", 50, least=0, most=100)


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_first
def test_a_batch_in_time_is_credited_nothing(owner: Person, witness: Witness, work: Callable[..., None]) -> None:
    batch = submitted(owner)
    assert owner.batch(batch.public_id)["sla"] == {"met": None, "credit_usd": "0"}
    work()
    assert owner.batch(batch.public_id)["sla"] == {"met": True, "credit_usd": "0"}
    assert set(posted(batch)) == {"batch_charge"}


@pytest.mark.sqlite_first
def test_what_ends_late_pays_half(owner: Person, witness: Witness, settings: Any) -> None:
    batch = submitted(owner)
    run(batch)
    late(batch)
    ended(batch)
    assert (batch.status, batch.sla_met, batch.sla_credit) == (Status.COMPLETED, False, batch.cost // 2)
    assert posted(batch) == {"batch_charge": batch.cost, "sla_credit": batch.cost // 2, "credit_use": batch.cost // 2}
    assert ledger.balance(owner.tenant.pk, Account.RECEIVABLE) == batch.cost - batch.cost // 2 > 0
    assert ledger.balance(owner.tenant.pk, Account.CREDITS) == 0
    assert owner.batch(batch.public_id)["sla"]["met"] is False
    settings.SLA_CREDIT_PERCENT = 10
    assert owner.batch(batch.public_id)["sla"]["credit_usd"] == money.usd(batch.cost // 2)


@pytest.mark.sqlite_first
def test_what_expires_is_credited_for_what_was_finished(owner: Person, witness: Witness) -> None:
    batch = submitted(owner)
    step("validating", tasks.validate)
    free = submitted(owner)  # it expires in validating
    for each in (batch, free):
        late(each)
    sweeping.sweep()
    for each in (batch, free):
        ended(each)
        assert (each.status, each.sla_met, each.sla_credit) == (Status.EXPIRED, False, 0)
        assert posted(each) == {"batch_charge": 0}, "of nothing there is no half"


def test_the_stored_end_is_the_moment_that_is_judged(
    owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, met, judged = submitted(owner), sla.met, []

    def watched(ending: Status, ended_at: datetime, deadline: datetime, held_back: bool) -> bool | None:
        judged.append(ended_at)
        return met(ending, ended_at, deadline, held_back)

    monkeypatch.setattr(sla, "met", watched)
    run(batch)
    assert [ended(batch).ended_at] == judged


@pytest.mark.sqlite_first
@pytest.mark.parametrize("moment", [timedelta(0), timedelta(microseconds=1)])
def test_an_end_at_the_deadline_is_in_time(
    owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch, moment: timedelta
) -> None:
    batch = submitted(owner)
    run(batch)
    monkeypatch.setattr(clock, "now", lambda: batch.deadline + moment)
    ended(batch)
    assert (batch.ended_at, batch.sla_met) == (batch.deadline + moment, not moment)
    assert ("sla_credit" in posted(batch)) == bool(moment)


@pytest.mark.sqlite_first
def test_what_was_paused_once_is_promised_nothing(owner: Person, witness: Witness) -> None:
    batch = submitted(owner)
    step("validating", tasks.validate)
    assert lifecycle.pause(batch.pk, "max_error_rate")
    lifecycle.resume(batch)
    run(batch)
    late(batch)
    ended(batch)
    assert (batch.status, batch.paused_reason, batch.sla_met) == (Status.COMPLETED, "", None)
    assert set(posted(batch)) == {"batch_charge"}


@pytest.mark.sqlite_first
@pytest.mark.parametrize("resumed", [True, False])
def test_whose_tenant_was_suspended_is_promised_nothing(owner: Person, witness: Witness, resumed: bool) -> None:
    before = submitted(owner)
    run(before)
    ended(before)
    batch = submitted(owner)
    step("validating", tasks.validate)
    Tenant.objects.update(suspended=True)
    sweeping.sweep()
    Tenant.objects.update(suspended=not resumed)
    late(batch)
    sweeping.sweep()
    ended(batch)
    assert (batch.sla_met, set(posted(batch))) == (None, {"batch_charge"})
    before.refresh_from_db()
    assert before.sla_met, "what had ended had met it"


@pytest.mark.sqlite_first
def test_who_is_suspended_at_the_end_gets_nothing(owner: Person, witness: Witness) -> None:
    batch = submitted(owner)
    run(batch)
    late(batch)
    Tenant.objects.update(suspended=True)
    assert ended(batch).sla_met is None and not batch.held_back


@pytest.mark.sqlite_first
def test_what_is_cancelled_is_promised_nothing(owner: Person, witness: Witness) -> None:
    batch = submitted(owner)
    step("validating", tasks.validate)
    late(batch)
    lifecycle.cancel(batch)
    assert (ended(batch).status, batch.sla_met) == (Status.CANCELLED, None)
    assert set(posted(batch)) == {"batch_charge"}


def test_expiry_races_with_the_end_and_either_way_it_is_credited_once(owner: Person, witness: Witness) -> None:
    endings = set()
    for number in range(4):
        batch = submitted(owner)
        run(batch)
        Batch.objects.filter(pk=batch.pk).update(status=Status.IN_PROGRESS, finalizing_at=None)
        late(batch)

        def close(batch: Batch = batch) -> None:
            with transaction.atomic():
                Batch.objects.select_for_update().get(pk=batch.pk)
                lifecycle.finalize_now(batch.pk)

        acts: list[Callable[[], Any]] = [close, lambda pk=batch.pk: lifecycle.expire(pk)]  # type: ignore[misc]
        race(2, lambda n, acts=acts, number=number: acts[(n + number) % 2]())  # type: ignore[misc]
        race(3, lambda _, pk=batch.pk: results.finalize(pk))  # type: ignore[misc]
        batch.refresh_from_db()
        endings.add(batch.status)
        assert (batch.sla_met, batch.sla_credit) == (False, batch.cost // 2)
        assert posted(batch)["sla_credit"] == batch.cost // 2
    print(f"ended {sorted(endings)}")


def test_a_finalize_that_died_credits_once(owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = submitted(owner)
    run(batch)
    late(batch)
    transition = lifecycle.transition

    def die(*_: Any, **__: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(lifecycle, "transition", die)
    with pytest.raises(KeyboardInterrupt):
        results.finalize(batch.pk)
    assert posted(batch) == {}
    monkeypatch.setattr(lifecycle, "transition", transition)
    Batch.objects.update(step_until=None)
    ended(batch)
    assert posted(batch)["sla_credit"] == batch.sla_credit == batch.cost // 2


def test_a_late_charge_is_taken_back_with_its_credit(owner: Person, witness: Witness) -> None:
    ledger.post(owner.tenant.pk, "credit_grant", "welcome", 1)
    batch = submitted(owner)
    run(batch)
    late(batch)
    ended(batch)
    with pytest.raises(corrections.NotCorrectable, match="are left"):
        corrections.take_back("sla_credit", batch.public_id, "x")
    made = corrections.take_back("batch_charge", batch.public_id, "wrong model")
    assert [entry.reverses.kind for entry in made if entry.reverses] == ["batch_charge", "credit_use", "sla_credit"]
    assert ledger.balance(owner.tenant.pk, Account.RECEIVABLE) == 0
    assert ledger.balance(owner.tenant.pk, Account.CREDITS) == 1


# --- attainment -------------------------------------------------------------------------------------------------------


def said(*words: str) -> list[dict[str, Any]]:
    out = io.StringIO()
    call_command(*words, stdout=out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def end_at(person: Person, moment: str, count: int, met: bool | None) -> None:
    columns = {"ended_at": datetime.fromisoformat(f"{moment}+00:00"), "sla_met": met}
    pks = [batch.pk for batch in make_batches(person.tenant, count)]
    Batch.objects.filter(pk__in=pks).update(status=Status.COMPLETED, **columns)


def test_a_month_counts_what_ended_in_it_and_was_promised(owner: Person, outsider: Person, at: Any) -> None:
    end_at(owner, "2026-10-01T00:00", 2, True)
    end_at(owner, "2026-10-31T23:59:59.999999", 1, False)
    end_at(owner, "2026-10-15T00:00", 4, None)
    end_at(owner, "2026-11-01T00:00", 1, True)
    end_at(owner, "2026-09-30T23:59:59.999999", 1, False)
    end_at(outsider, "2026-10-15T00:00", 1, True)
    october, mine = date(2026, 10, 1), owner.tenant.pk
    assert attainment.of_month(october) == {mine: Attainment(3, 2), outsider.tenant.pk: Attainment(1, 1)}
    assert attainment.of_month(october, mine) == {mine: Attainment(3, 2)}
    assert said("sla", "--month", "2026-10") == [
        {"tenant": "owner", "month": "2026-10", "batches": 3, "met": 2, "attainment": 0.6666},
        {"tenant": "outsider", "month": "2026-10", "batches": 1, "met": 1, "attainment": 1.0},
    ]
    at(2026, 11, 2)
    assert [row["month"] for row in said("sla")] == ["2026-11"]
    for wrong in ("10-2026", "9999-12", "2026-W1", "2026-00"):
        with pytest.raises(CommandError, match="no month"):
            said("sla", "--month", wrong)
    at(2026, 10, 5)
    ledger.post(mine, "credit_grant", "welcome", 1)
    at(2026, 11, 2)
    [invoice] = invoicing.close_all()
    shown = owner.get(f"/v1/invoices/{invoice.public_id}").json()
    assert shown["sla"] == {"batches": 3, "met": 2, "attainment": 0.6666}


def test_shares_are_rounded_down_and_none_is_none() -> None:
    assert (Attainment().share, Attainment(3, 0).share, Attainment(100_000, 99_999).share) == (None, 0.0, 0.9999)
    assert Attainment(7, 7).share == 1.0


@pytest.mark.sqlite_only
def test_a_month_of_one_tenant_is_found_by_its_index(owner: Person) -> None:
    span = {"ended_at__gte": MOMENT, "ended_at__lt": MOMENT, "sla_met__isnull": False}
    plan = Batch.objects.filter(tenant=owner.tenant, **span).explain()
    assert connection.vendor != "sqlite" or "batch_promised" in plan
