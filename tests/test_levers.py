"""What operators do to a batch: a pause that its tenant can't end and that takes no promise away; a higher priority."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from batches import expecting, lifecycle, reserving, sweeping, tasks
from batches.core.states import Status
from batches.models import Batch, Slice
from billing import money
from billing.models import Customer
from tenants import clock
from tenants.models import AuditEvent
from tests.conftest import Person, step
from tests.test_engine import Work, ledgers_agree, numbered
from tests.test_pause import TINY, code, in_hand, paused, submit
from tests.test_resume import resume
from tests.test_web import shown
from tests.test_web_batch import acting, address
from tests.witness import Witness


def halted(owner: Person, lines: int = 3, **fields: str) -> Batch:
    """A batch that the operator paused before a line was sent."""
    batch = submit(owner, numbered(lines), **fields)
    assert lifecycle.pause_by_operator(batch)
    batch.refresh_from_db()
    return batch


def test_an_operators_pause_is_the_operators_to_end_and_keeps_the_promise(
    owner: Person, witness: Witness, work: Work
) -> None:
    batch = halted(owner)
    assert not lifecycle.pause_by_operator(batch)
    work()
    sweeping.sweep()
    assert witness.requests_by_marker() == {}
    found = owner.batch(batch.public_id)
    assert (found["status"], found["paused_reason"]) == ("in_progress", "operator")
    assert (found["estimated_completion_at"], found["waiting_reason"]["code"]) == (None, "paused")
    for fields in ({}, {"max_cost_usd": "5"}):
        assert code(resume(owner, batch, **fields), 409) == "paused_by_operator"
    batch.refresh_from_db()
    assert (batch.paused_reason, batch.max_cost, batch.held_back) == ("operator", None, False)
    assert lifecycle.resume_by_operator(batch)
    assert not lifecycle.resume_by_operator(batch)
    work()
    ledgers_agree(owner, batch)
    assert (batch.status, batch.sla_met) == (Status.COMPLETED, True)
    assert set(witness.requests_by_marker().values()) == {1}
    assert not lifecycle.pause_by_operator(batch)


def test_a_pause_stops_what_is_in_hand(owner: Person, witness: Witness, work: Work) -> None:
    witness.configure(latency_ms=[100, 150])
    batch = submit(owner, numbered(300))
    pulled: list[bool] = []

    def stop() -> bool:
        if not pulled and witness.requests_by_marker():
            pulled.append(lifecycle.pause_by_operator(batch))
        return False

    work(stop=stop)
    batch.refresh_from_db()
    assert pulled == [True] and (batch.status, batch.paused_reason) == (Status.IN_PROGRESS, "operator")
    assert 0 < batch.completed == len(witness.requests_by_marker()) < 300, "what was in flight is kept"
    assert not batch.slices.filter(state=Slice.State.LEASED).exists()


@pytest.mark.sqlite_first
def test_the_dashboard_shows_no_form_that_would_be_refused(owner: Person, witness: Witness) -> None:
    batch = halted(owner)
    client = acting(owner)
    html = shown(client, address(owner, batch))
    assert "It is paused: The operator of this service stopped it." in html
    assert "Go on" not in html and "Cancel the batch" in html
    sent = client.post(address(owner, batch, "resume"))
    assert sent.status_code == 409 and b"Ask them to resume it." in sent.content


def test_a_resume_that_meets_an_operators_pause_is_refused(
    owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two resumes of the tenant's: between the look and the change of one, the other went through and the operator
    paused it."""
    batch = paused(owner)
    reserve = reserving.again

    def meanwhile(*args: Any) -> dict[str, int]:
        found = reserve(*args)
        Batch.objects.filter(pk=batch.pk).update(paused_reason="operator")
        return found

    monkeypatch.setattr(reserving, "again", meanwhile)
    assert code(resume(owner, batch, max_cost_usd="5"), 409) == "paused_by_operator"
    batch.refresh_from_db()
    assert batch.paused_reason and batch.max_cost == money.amount(TINY)


def test_a_cap_that_was_reached_meanwhile_pauses_it_after_all(owner: Person, witness: Witness) -> None:
    hand = in_hand(owner, 3, max_cost_usd=TINY)
    lifecycle.pause_by_operator(hand.batch)
    hand.hand_in(1)
    assert (hand.batch.paused_reason, hand.batch.held_back) == ("operator", False)
    assert lifecycle.resume_by_operator(hand.batch)
    hand.batch.refresh_from_db()
    assert (hand.batch.paused_reason, hand.batch.held_back) == ("max_cost_usd", True)
    assert resume(owner, hand.batch, max_cost_usd="5").status_code == 200


def test_a_reservation_that_was_used_up_meanwhile_pauses_it_after_all(owner: Person, witness: Witness) -> None:
    """A tenant with a limit never spends beyond it, also not around an operator's pause."""
    Customer.objects.create(tenant=owner.tenant, monthly_limit=money.amount("1"))
    hand = in_hand(owner, 3)
    Batch.objects.update(reserved=1)
    lifecycle.pause_by_operator(hand.batch)
    hand.hand_in(1)
    lifecycle.go_on()
    hand.batch.refresh_from_db()
    assert hand.batch.paused_reason == "operator" and hand.batch.cost > hand.batch.reserved
    assert code(resume(owner, hand.batch), 409) == "paused_by_operator"
    assert lifecycle.resume_by_operator(hand.batch)
    hand.batch.refresh_from_db()
    assert hand.batch.paused_reason == "spending_limit"
    lifecycle.go_on()
    hand.batch.refresh_from_db()
    assert hand.batch.paused_reason == "" and hand.batch.reserved > hand.batch.cost


@pytest.mark.sqlite_first
def test_a_batch_that_the_operator_paused_is_cancelled_or_expires(owner: Person, witness: Witness) -> None:
    cancelled, late = halted(owner), halted(owner)
    answer = owner.post(f"/v1/batch/{cancelled.public_id}/cancel")
    assert (answer.status_code, answer.json()["paused_reason"]) == (200, None)
    Batch.objects.filter(pk=late.pk).update(deadline=clock.now() - timedelta(seconds=1))
    sweeping.sweep()
    step("finalizing", tasks.finalize)
    ends = {batch.pk: (batch.status, batch.paused_reason, batch.sla_met) for batch in Batch.objects.all()}
    assert ends == {cancelled.pk: (Status.CANCELLED, "", None), late.pk: (Status.EXPIRED, "", False)}
    assert not lifecycle.resume_by_operator(late)


@pytest.mark.sqlite_only
def test_the_commands_and_what_the_tenant_reads_of_them(
    owner: Person, witness: Witness, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = submit(owner, numbered(3))
    pull(capsys, "pause", batch, '"paused_reason": "operator"')
    expecting.refresh()
    pull(capsys, "resume", batch, '"paused_reason": null')
    pull(capsys, "raise", batch, '"raised": true')
    pull(capsys, "lower", batch, '"raised": false')
    rows = AuditEvent.objects.order_by("pk").values_list("tenant", "actor", "action", "target")
    told = ("batch.paused", "batch.resumed", "batch.raised", "batch.lowered")
    assert [row for row in rows if row[2] in told] == [
        (owner.tenant.pk, "operator", action, batch.public_id) for action in told
    ]
    refusals = (("resume", "not paused by"), ("lower", "was not raised"), ("pause", "batch list"))
    for verb, cure in refusals:
        name = "batch_none" if verb == "pause" else batch.public_id
        with pytest.raises(CommandError, match=cure):
            call_command("batch", verb, name)
    assert rows.filter(action__in=told).count() == len(told)


def pull(capsys: pytest.CaptureFixture[str], verb: str, batch: Batch, shows: str) -> None:
    call_command("batch", verb, batch.public_id)
    assert shows in capsys.readouterr().out
