"""When batches should end and what they wait for: what the rows say, against what then happens on the real engine."""

import io
import json
import time
from collections.abc import Callable
from datetime import timedelta
from statistics import median
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from batches import expecting, lifecycle, tasks
from batches.core.states import Status
from batches.engine import leases
from batches.models import Batch, File, Result, Slice, Upstream
from tenants import clock
from tenants.models import Tenant
from tests.conftest import Person, step
from tests.test_admin import staff
from tests.test_engine import submit as submit_lines
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first

Work = Callable[..., None]


def submit(person: Person, lines: int, **kwargs: Any) -> Batch:
    return submit_lines(person, [request_line(str(n), custom_id=f"line:{n}", **kwargs) for n in range(lines)])


def shown(person: Person, batch: Batch) -> tuple[int | None, str | None]:
    found = person.batch(batch.public_id)
    reason = found["waiting_reason"]
    assert reason is None or reason["message"].endswith(".")
    return found["estimated_completion_at"], reason and reason["code"]


def known_pace() -> None:
    """Results of some other time: 2 seconds for each line of 100 tokens."""
    tenant = Tenant.objects.create(name="earlier")
    (batch,) = rows(tenant, 1, status=Status.COMPLETED)
    Result.objects.create(
        tenant=tenant, batch=batch, line=1, seq=1, custom_id="a", status_code=200, input_tokens=100, latency_ms=2000,
        upstream_id=Upstream.objects.earliest("pk").pk, finished_at=clock.now(), segment_id=1, offset=0, length=1,
    )  # fmt: skip


def rows(tenant: Tenant, count: int, **fields: Any) -> list[Batch]:
    now = clock.now()
    file = File.objects.create(
        tenant=tenant, purpose="batch", filename="a", bytes=1, lines=1, sha256="", storage_key="k", created_at=now
    )
    common = {"endpoint": "/v1/chat/completions", "created_at": now, "deadline": now + timedelta(hours=24)}
    common |= {"tenant": tenant, "input_file": file, "model": "witness", "total": 1000, "in_progress_at": now}
    return Batch.objects.bulk_create([Batch(**(common | fields)) for _ in range(count)])


class Sampler:
    """A `stop` that is never true, and asks for the estimate at every tenth of a batch."""

    def __init__(self, batch: Batch) -> None:
        self.batch, self.samples = batch, list[tuple[Any, Any]]()

    def __call__(self) -> bool:
        self.batch.refresh_from_db()
        done = self.batch.completed + self.batch.failed
        if self.batch.status == Status.IN_PROGRESS and done >= self.batch.total * (len(self.samples) + 1) / 10:
            expecting.refresh()
            self.batch.refresh_from_db()
            if self.batch.status != Status.IN_PROGRESS:  # its last lines were committed meanwhile
                return False
            assert self.batch.expected_at is not None
            self.samples.append((clock.now(), self.batch.expected_at))
        return False

    def errors(self) -> list[float]:
        end = self.batch.finalizing_at
        assert end is not None
        return [abs(said - end) / (end - at) for at, said in self.samples if at < end]


@pytest.mark.sqlite_only
@pytest.mark.soak
@pytest.mark.parametrize("beside", [0, 1])
def test_the_error_on_the_real_engine(
    owner: Person, outsider: Person, witness: Witness, work: Work, beside: int
) -> None:
    """Relative to the time that was really left, so that a slow machine slows both."""
    witness.configure(latency_ms=[30, 40], log=False)
    Upstream.objects.update(max_in_flight=4)
    lines = 600 // (1 + beside)
    sampler = Sampler(submit(owner, lines))
    if beside:
        submit(outsider, lines)
    work(stop=sampler)
    sampler.batch.refresh_from_db()
    found = sampler.errors()
    print(f"beside {beside}: median {median(found):.1%} of {[f'{error:.0%}' for error in found]}")
    assert len(found) >= 8
    assert median(found) <= 0.25
    assert (sampler.batch.expected_at, sampler.batch.waiting_reason) == (None, "")


def test_nothing_is_said_before_anything_is_known(owner: Person, witness: Witness) -> None:
    batch = submit(owner, 10)
    assert shown(owner, batch) == (None, None)
    known_pace()
    before = clock.now()
    expecting.refresh()
    batch.refresh_from_db()
    assert batch.expected_at is not None and batch.expected_at > before
    assert shown(owner, batch) == (int(batch.expected_at.timestamp()), None)


def test_an_estimate_is_there_as_soon_as_a_batch_starts(owner: Person, witness: Witness) -> None:
    known_pace()
    batch = submit(owner, 10)
    assert shown(owner, batch)[0] is not None
    lifecycle.cancel(batch)
    assert shown(owner, batch) == (None, None)


def test_reasons(owner: Person, outsider: Person, witness: Witness) -> None:
    known_pace()
    first, second, other = submit(owner, 64), submit(owner, 64), submit(outsider, 64)

    def reasons() -> list[str | None]:
        expecting.refresh()
        return [shown(person, batch)[1] for person, batch in ((owner, first), (owner, second), (outsider, other))]

    assert reasons() == ["behind_others"] * 3
    assert owner.batch(second.public_id)["waiting_reason"]["message"] == (
        "1 of the tenant's own batches come first and work of other tenants leaves 50% of the model."
    )
    Tenant.objects.filter(pk=outsider.tenant.pk).update(suspended=True)
    expecting.refresh()
    running = Batch.objects.filter(status=Status.IN_PROGRESS).order_by("pk")
    assert [row.waiting_reason.partition(":")[0] for row in running] == [
        "", "behind_others", "tenant_suspended",
    ]  # fmt: skip
    assert Batch.objects.get(pk=other.pk).expected_at is None
    Tenant.objects.update(suspended=False)
    Upstream.objects.update(enabled=False)
    assert reasons() == ["upstream_unavailable"] * 3
    assert shown(owner, first)[0] is None
    Upstream.objects.update(enabled=True, cooling_until=clock.now())
    assert reasons() == ["upstream_unavailable"] * 3
    Upstream.objects.create(model="witness", base_url="http://127.0.0.1:9/v1", tenant=outsider.tenant)
    assert reasons()[2] != "upstream_unavailable"
    Upstream.objects.update(cooling_until=clock.now() - 2 * expecting.STALE)
    Slice.objects.filter(batch=first).update(not_before=clock.now() + timedelta(hours=1))
    assert reasons()[0] == "retry_later"
    expected = shown(owner, first)[0]
    assert expected is not None and expected > clock.now().timestamp() + 3000


def test_a_batch_of_two_models_ends_with_its_last(owner: Person, witness: Witness) -> None:
    Upstream.objects.create(model="slow", base_url="http://127.0.0.1:9/v1", max_in_flight=1)
    known_pace()
    lines = [request_line(f"{n}-{model}", model=model) for n in range(64) for model in ("witness", "slow")]
    batch, alone = submit_lines(owner, lines), submit(owner, 64)
    mixed, quick = shown(owner, batch)[0], shown(owner, alone)[0]
    assert mixed is not None and quick is not None and mixed > quick
    Upstream.objects.filter(model="slow").update(enabled=False)
    expecting.refresh()
    assert shown(owner, batch) == (None, "upstream_unavailable")
    assert shown(owner, alone)[0] is not None


@pytest.mark.sqlite_only
def test_a_runner_says_that_its_upstream_rests_and_that_it_answers_again(
    owner: Person, witness: Witness, work: Work
) -> None:
    batch, seen = submit(owner, 4), list[Any]()
    Upstream.objects.update(base_url="http://127.0.0.1:9/v1")

    def stop() -> bool:
        expecting.refresh()
        reason = Batch.objects.get(pk=batch.pk).waiting_reason
        if not seen and reason.startswith("upstream_unavailable"):
            seen.append(Upstream.objects.get().cooling_until)
            Upstream.objects.update(base_url=witness.base_url)
        return False

    work(stop=stop, idle=2.0)
    assert seen and seen[0] is not None
    assert Upstream.objects.get().cooling_until is None
    assert owner.batch(batch.public_id)["completed_count"] == 4


@pytest.mark.sqlite_only
def test_a_runner_says_that_all_lines_of_a_slice_wait(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT", 0.0)
    batch, seen = submit(owner, 4, faults=["429:1:ra=2"]), list[Any]()

    def stop() -> bool:
        expecting.refresh()
        seen.append(Batch.objects.get(pk=batch.pk).waiting_reason.partition(":")[0])
        return False

    work(stop=stop)
    assert "retry_later" in seen
    assert owner.batch(batch.public_id)["completed_count"] == 4


def test_what_ended_meanwhile_is_left_alone(owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    known_pace()
    batch = submit(owner, 10)
    Batch.objects.update(expected_at=None)
    write = expecting._write

    def late(changed: Any) -> None:
        changed = list(changed)
        assert [row.pk for row in changed] == [batch.pk]
        lifecycle.cancel(batch)
        write(changed)

    monkeypatch.setattr(expecting, "_write", late)
    expecting.refresh()
    assert Batch.objects.get(pk=batch.pk).expected_at is None


@pytest.mark.sqlite_only
def test_five_hundred_batches_of_fifty_tenants_cost_few_queries(owner: Person, witness: Witness) -> None:
    known_pace()
    tenants = Tenant.objects.bulk_create(Tenant(name=f"tenant {n}", weight=1 + n % 3) for n in range(50))
    batches = [batch for tenant in tenants for batch in rows(tenant, 10, status=Status.IN_PROGRESS)]
    Slice.objects.bulk_create(
        Slice(
            tenant_id=batch.tenant_id, batch=batch, index=index, model="witness", offset=0, length=1, lines=100,
            tokens=10_000, entries=b"",
        )
        for batch in batches
        for index in range(10)
    )  # fmt: skip
    with CaptureQueriesContext(connection) as first:
        started = time.perf_counter()
        expecting.refresh()
        taken = time.perf_counter() - started
    assert not Batch.objects.filter(status=Status.IN_PROGRESS, expected_at=None).exists()
    with CaptureQueriesContext(connection) as again:
        started = time.perf_counter()
        expecting.refresh()
        later = time.perf_counter() - started
    print(f"500 batches: {taken * 1000:.0f} ms, {len(first)} queries; then {later * 1000:.0f} ms, {len(again)} queries")
    assert len(first) <= 16
    assert len(again) <= 8
    assert not [query for query in again if "UPDATE" in query["sql"]]


def test_operators_see_what_is_at_risk(owner: Person, witness: Witness) -> None:
    now = clock.now()
    fine, late, unknown, _ = rows(owner.tenant, 4, status=Status.IN_PROGRESS)
    Batch.objects.update(expected_at=now + timedelta(hours=1))
    Batch.objects.filter(pk=late.pk).update(deadline=now + timedelta(hours=1, minutes=5))
    Batch.objects.filter(pk=unknown.pk).update(expected_at=None, deadline=now + timedelta(minutes=30))
    out = io.StringIO()
    call_command("batch", "list", "--at-risk", stdout=out)
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["id"] for line in found] == [late.public_id, unknown.public_id]
    out = io.StringIO()
    call_command("batch", "list", stdout=out)
    everything = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(everything) == 4
    assert (everything[0]["id"], everything[0]["deadline_at_risk"]) == (fine.public_id, False)
    page = staff("root@example.com", is_superuser=True).get("/admin/batches/batch/?trouble=late").content.decode()
    assert late.public_id in page and unknown.public_id in page and fine.public_id not in page


def test_who_is_over_the_limit_is_told_when_the_first_should_end(owner: Person, witness: Witness) -> None:
    Tenant.objects.update(batch_limit=2)
    soon, _ = rows(owner.tenant, 2, status=Status.IN_PROGRESS)
    line = [request_line("a")]
    assert owner.submit(line)["Retry-After"] == "30"
    Batch.objects.filter(pk=soon.pk).update(expected_at=clock.now() + timedelta(seconds=55))
    assert 30 < int(owner.submit(line)["Retry-After"]) <= 55
    Batch.objects.filter(pk=soon.pk).update(expected_at=clock.now() + timedelta(seconds=1000))
    assert owner.submit(line)["Retry-After"] == "60", "clients give up at a longer one"


def test_a_sweep_estimates(owner: Person, witness: Witness) -> None:
    known_pace()
    batch = submit(owner, 10)
    Batch.objects.update(expected_at=None)
    tasks.tick()
    assert shown(owner, batch)[0] is not None
    step("validating", tasks.validate)
