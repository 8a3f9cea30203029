"""Claims on the database follow core/scheduling.py: its rows say who was served, what is due, and how fast."""

from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F, Q
from django.test.utils import CaptureQueriesContext

from batches import lifecycle, tasks
from batches.core.scheduling import FAMILIAR
from batches.core.states import Status
from batches.engine import leases, standing
from batches.models import Batch, Runner, Slice, Upstream
from tenants import clock
from tenants.models import Tenant
from tests.conftest import Person, step
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first

LANE = Q(model="witness")


@pytest.fixture
def runner(witness: Witness) -> Runner:
    return leases.register()


def submit(person: Person, lines: int) -> Batch:
    answer = person.submit([request_line(str(n), custom_id=f"line:{n}") for n in range(lines)])
    assert answer.status_code == 200, answer.content
    step("validating", tasks.validate)
    batch = Batch.objects.get(public_id=answer.json()["id"])
    assert batch.status == Status.IN_PROGRESS, batch.errors
    return batch


def claim(runner: Runner) -> leases.Claim:
    (only,) = leases.claim(runner, LANE, 1)
    return only


def tenants(runner: Runner, count: int) -> list[int]:
    return [claim(runner).tenant for _ in range(count)]


def test_a_small_tenant_after_a_big_one_gets_the_next_claim(owner: Person, outsider: Person, runner: Runner) -> None:
    submit(owner, 640)
    assert tenants(runner, 5) == [owner.tenant.pk] * 5
    small = submit(outsider, 10)
    assert claim(runner).batch == small.pk
    assert claim(runner).tenant == owner.tenant.pk


def test_one_claim_of_many_lines_takes_turns_too(owner: Person, outsider: Person, runner: Runner) -> None:
    submit(owner, 320)
    submit(outsider, 320)
    claims = leases.claim(runner, LANE, 320)
    assert Counter(some.tenant for some in claims) == {owner.tenant.pk: 4, outsider.tenant.pk: 4}


def test_weights_decide_how_many_slices(owner: Person, outsider: Person, runner: Runner) -> None:
    Tenant.objects.filter(pk=owner.tenant.pk).update(weight=3)
    submit(owner, 640)
    submit(outsider, 640)
    assert Counter(tenants(runner, 8)) == {owner.tenant.pk: 6, outsider.tenant.pk: 2}


def test_reserved_slots_decide_how_many_slices(owner: Person, outsider: Person, runner: Runner) -> None:
    """24 of the witness's 32 slots: three of four claims."""
    Tenant.objects.filter(pk=owner.tenant.pk).update(reserved_slots=24)
    submit(owner, 640)
    submit(outsider, 640)
    assert Counter(tenants(runner, 8)) == {owner.tenant.pk: 6, outsider.tenant.pk: 2}


def test_slots_are_those_of_the_lane(owner: Person, outsider: Person, witness: Witness) -> None:
    """A tenant with upstreams of its own uses only them, and nobody else does."""
    own = outsider.tenant
    Upstream.objects.create(model="witness", base_url="http://other.invalid/v1", max_in_flight=960, tenant=own)
    assert standing.load("witness", {owner.tenant.pk}).slots == 32
    assert standing.load("witness", {own.pk}).slots == 960


def test_a_batch_in_danger_goes_first_and_its_tenant_has_half(owner: Person, outsider: Person, runner: Runner) -> None:
    Tenant.objects.filter(pk=owner.tenant.pk).update(weight=9)
    submit(owner, 640)
    calm, late = submit(outsider, 128), submit(outsider, 640)
    Batch.objects.filter(pk=late.pk).update(deadline=clock.now() + timedelta(minutes=10))
    claims = [claim(runner) for _ in range(8)]
    assert Counter(some.tenant for some in claims) == {owner.tenant.pk: 4, outsider.tenant.pk: 4}
    assert calm.pk not in {some.batch for some in claims}


def test_a_raised_batch_goes_first_and_its_tenant_has_half_behind_one_in_danger(
    owner: Person, outsider: Person, runner: Runner
) -> None:
    Tenant.objects.filter(pk=owner.tenant.pk).update(weight=9)
    submit(owner, 1024)
    submit(outsider, 128)
    raised, late = submit(outsider, 1024), submit(outsider, 1024)
    assert lifecycle.raise_priority(raised) and not lifecycle.raise_priority(raised)
    claims = [claim(runner) for _ in range(8)]
    assert Counter(some.batch for some in claims if some.tenant == outsider.tenant.pk) == {raised.pk: 4}
    Batch.objects.filter(pk=late.pk).update(deadline=clock.now() + timedelta(minutes=10))
    claims = [claim(runner) for _ in range(4)]
    assert {some.batch for some in claims if some.tenant == outsider.tenant.pk} == {late.pk}
    assert lifecycle.lower_priority(raised) and not lifecycle.lower_priority(raised)
    Batch.objects.filter(pk=raised.pk).update(status=Status.CANCELLING)
    assert not lifecycle.raise_priority(raised)


def test_the_rows_of_an_ended_batch_are_forgotten(owner: Person, outsider: Person, runner: Runner) -> None:
    """Who comes back starts beside the others: neither its old service nor theirs is held against anybody."""
    old, _ = submit(outsider, 64), submit(owner, 4096)
    tenants(runner, 10)
    assert Slice.objects.filter(batch=old, virtual=None).count() == 0
    Slice.objects.filter(batch=old).delete()
    Batch.objects.filter(pk=old.pk).update(status=Status.COMPLETED)
    submit(outsider, 4096)
    assert Counter(tenants(runner, 8)) == {owner.tenant.pk: 4, outsider.tenant.pk: 4}


def test_a_suspended_tenant_gets_no_arrears(owner: Person, outsider: Person, runner: Runner) -> None:
    submit(owner, 4096)
    submit(outsider, 4096)
    tenants(runner, 2)
    Tenant.objects.filter(pk=outsider.tenant.pk).update(suspended=True)
    Slice.objects.filter(tenant=owner.tenant, virtual=None, index__lt=9).update(
        state=Slice.State.DONE, virtual=F("tokens") * (F("index") + 1) * 100
    )
    Tenant.objects.filter(pk=outsider.tenant.pk).update(suspended=False)
    assert owner.tenant.pk in tenants(runner, 10)


def test_a_slice_is_counted_once_however_often_it_is_claimed(owner: Person, runner: Runner) -> None:
    submit(owner, 64)
    first = claim(runner)
    leases.release(first, {})
    again = claim(runner)
    assert (again.slice, again.virtual) == (first.slice, first.virtual)
    Slice.objects.filter(pk=first.slice).update(lease_until=clock.now() - timedelta(seconds=1))
    assert (claim(runner).slice, claim(runner).virtual > first.virtual) == (first.slice, True)


def test_what_lines_really_took_corrects_the_estimate(owner: Person, runner: Runner) -> None:
    batch = submit(owner, 640)
    before = claim(runner)
    Batch.objects.filter(pk=batch.pk).update(completed=FAMILIAR, input_tokens=0, output_tokens=FAMILIAR * 100)
    after = claim(runner)
    lines = Slice.objects.get(pk=after.slice).lines
    expected = min(max(lines * 100, after.tokens / 8), after.tokens * 8)
    assert after.virtual - before.virtual == pytest.approx(expected)


def test_two_runners_that_looked_at_once_count_both_slices(owner: Person, runner: Runner) -> None:
    batch = submit(owner, 64)
    stand = (0.0, 1.0)
    (first,) = leases._claim_next(runner, batch.pk, LANE, stand)
    (second,) = leases._claim_next(leases.register(), batch.pk, LANE, stand)
    assert first is not None and second is not None
    assert second.virtual == first.virtual + second.tokens


def test_a_claim_asks_the_same_few_questions_however_many_batches(owner: Person, runner: Runner) -> None:
    Tenant.objects.update(batch_limit=100)
    submit(owner, 32)
    with CaptureQueriesContext(
        connection,
    ) as one:
        claim(runner)
    for _ in range(12):
        submit(owner, 32)
    with CaptureQueriesContext(connection) as many:
        claim(runner)
    assert len(many) == len(one) <= 15
