"""Why a batch does not move, told by its page: each cause that there is, and what to do about it."""

from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags

from batches import expecting
from batches.core.states import Status
from batches.models import Batch, Permit, Result, Runner, Slice, Upstream
from tenants import clock
from tenants.models import Tenant
from tests.conftest import Person
from tests.staff import member_of, signed_in
from tests.test_console_batches import MOST_QUERIES, page
from tests.test_web import NAUGHTY, make_batches

pytestmark = pytest.mark.postgres_first

LATER = timedelta(hours=20)
STEP = "host-1/4711/99/" + "f" * 16


@pytest.fixture
def shift(owner: Person) -> Client:
    return signed_in(member_of("support"))


def goes(client: Client, batch: Batch) -> str:
    """What the panel says, as words."""
    with CaptureQueriesContext(connection) as captured:
        html = client.get(page(batch)).content.decode()
    assert len(captured) <= MOST_QUERIES
    panel = html.partition('class="module how"')[2].partition("</section>")[0]
    return " ".join(unescape(strip_tags(panel.replace("<", " <"))).split())


def running(tenant: Tenant, **fields: Any) -> Batch:
    """A batch in progress with one slice of ten lines that waits."""
    [batch] = make_batches(tenant, **{"status": "in_progress", "deadline": clock.now() + LATER, **fields})
    cut(batch)
    return batch


def cut(batch: Batch, **fields: Any) -> Slice:
    parts = {"tenant": batch.tenant, "batch": batch, "model": "m", "offset": 0, "length": 9, "lines": 10, "tokens": 30}
    rest = {"index": Slice.objects.filter(batch=batch).count(), "entries": b""}
    return Slice.objects.create(**{**parts, **rest, **fields})


def runner(seconds: float = 30, **fields: Any) -> Runner:
    now = clock.now()
    lease = {"created_at": now, "lease_until": now + timedelta(seconds=seconds)}
    made = {"token": f"t{Runner.objects.count()}", "host": "host-1", "pid": 4711, "started_ticks": 1}
    return Runner.objects.create(**{**made, **lease, **fields})


@pytest.mark.sqlite_first
def test_nobody_serves_the_model(shift: Client, owner: Person) -> None:
    batch = running(owner.tenant)
    assert "No upstream serves 'm': add one." in goes(shift, batch)
    one, two = [Upstream.objects.create(model="m", base_url=f"http://up{n}/v1", enabled=False) for n in range(2)]
    assert f"No enabled upstream serves 'm': enable #{one.pk} or #{two.pk}, or add one." in goes(shift, batch)
    Permit.objects.create(upstream=one, runner=runner(), slots=3, in_flight=3)
    assert f"#{one.pk} http://up0/v1 draining 3 of 64" in goes(shift, batch)
    Upstream.objects.filter(pk=one.pk).update(severed=True)
    assert f"#{one.pk} http://up0/v1 cut off 3 of 64" in goes(shift, batch)
    Runner.objects.update(lease_until=clock.now() - timedelta(seconds=1))
    assert f"#{one.pk} http://up0/v1 off 0 of 64" in goes(shift, batch), "what a dead runner held is in no flight"
    Upstream.objects.filter(pk=two.pk).update(enabled=True, cooling_until=clock.now() + timedelta(seconds=20))
    said = goes(shift, batch)
    assert f"failed and rests: look whether #{two.pk} answers (Test now)" in said and "resting until" in said
    Upstream.objects.filter(pk=two.pk).update(enabled=False)
    assert "off 0 of 64" in goes(shift, batch), "nobody tries it again"


@pytest.mark.sqlite_only
def test_a_tenants_own_upstream_takes_the_place_of_the_shared(shift: Client, owner: Person, outsider: Person) -> None:
    runner()
    batch = running(owner.tenant)
    Upstream.objects.create(model="m", base_url="http://shared/v1")
    Upstream.objects.create(model="m", base_url="http://foreign/v1", tenant=outsider.tenant, enabled=False)
    assert "It runs: nothing to do." in goes(shift, batch) and "foreign" not in goes(shift, batch)
    own = Upstream.objects.create(model="m", base_url="http://own/v1", tenant=owner.tenant, enabled=False)
    said = goes(shift, batch)
    assert f"No enabled upstream of its tenant's own serves 'm': enable #{own.pk}" in said and "shared" not in said


@pytest.mark.sqlite_only
def test_nobody_runs_it(shift: Client, owner: Person) -> None:
    Upstream.objects.create(model="m", base_url="http://up/v1")
    batch = running(owner.tenant)
    runner(-5)
    runner(draining=True)
    assert "No runner is alive: start the workers" in goes(shift, batch)


@pytest.mark.sqlite_first
def test_who_holds_its_slices(shift: Client, owner: Person) -> None:
    Upstream.objects.create(model="m", base_url="http://up/v1")
    batch, alive = running(owner.tenant), runner()
    held = {"state": Slice.State.LEASED, "runner": alive}
    Slice.objects.filter(batch=batch).update(**held, lease_until=clock.now() + timedelta(seconds=25))
    said = goes(shift, batch)
    assert "host-1:4711 1 10 2" in said and "0 wait, 1 leased, 0 done" in said and "It runs: nothing to do." in said
    Slice.objects.filter(batch=batch).update(lease_until=clock.now() - timedelta(seconds=1))
    said = goes(shift, batch)
    assert "host-1:4711 held the last of its slices and is gone" in said and "over: it is gone" in said
    Slice.objects.filter(batch=batch).update(attempts=2)
    cut(batch)
    said = goes(shift, batch)
    assert "1 slice: their runners died twice" in said and "Suspects 1 slice, sent line by line" in said


@pytest.mark.sqlite_only
def test_what_waits_for_a_retry(shift: Client, owner: Person) -> None:
    Upstream.objects.create(model="m", base_url="http://up/v1")
    runner()
    batch = running(owner.tenant)
    Slice.objects.update(not_before=clock.now() + timedelta(minutes=3))
    assert "wait to be sent again, in 2 min" in goes(shift, batch)


@pytest.mark.sqlite_only
def test_what_stands_behind_others(shift: Client, owner: Person) -> None:
    upstream = Upstream.objects.create(model="m", base_url="http://up/v1", max_in_flight=8)
    Permit.objects.create(upstream=upstream, runner=runner(), slots=8, in_flight=8)
    batch = running(owner.tenant)
    Batch.objects.update(waiting_reason=f"{expecting.BEHIND}: Two batches of other tenants come first.")
    assert "Other batches come first: nothing to do, its turn comes." in goes(shift, batch)
    Batch.objects.update(deadline=clock.now() + timedelta(minutes=20))
    said = goes(shift, batch)
    assert "raise its priority, or give the model more slots." in said and "(promised), at risk" in said
    Batch.objects.update(waiting_reason="")
    assert "It runs, and may miss its deadline: give 'm' more slots" in goes(shift, batch)


@pytest.mark.sqlite_only
def test_what_holds_it_back(shift: Client, owner: Person) -> None:
    batch = running(owner.tenant)
    for reason, words in (
        ("operator", "Staff paused it"), ("max_cost_usd", "it is the tenant's to raise that and resume"),
        ("max_error_rate", "may be an upstream's fault"), ("insufficient_credits", "it goes on by itself"),
        ("spending_limit", "it goes on by itself"),
    ):  # fmt: skip
        Batch.objects.update(paused_reason=reason)
        assert words in goes(shift, batch)
    Batch.objects.update(paused_reason="")
    Tenant.objects.filter(pk=owner.tenant.pk).update(suspended=True)
    assert "Its tenant is suspended" in goes(shift, batch)
    Batch.objects.update(status="cancelling")
    assert "It waits for what is in flight" in goes(shift, batch)


@pytest.mark.sqlite_first
@pytest.mark.parametrize("status", [Status.VALIDATING, Status.FINALIZING])
def test_who_has_its_step(shift: Client, owner: Person, status: Status) -> None:
    now = clock.now()
    [batch] = make_batches(owner.tenant, status=status, deadline=now + LATER)
    rows = Batch.objects.filter(pk=batch.pk)
    assert "as soon as a worker is free" in goes(shift, batch)
    rows.update(created_at=now - timedelta(minutes=5), finalizing_at=now - timedelta(minutes=5))
    assert "No worker takes it up" in goes(shift, batch)
    rows.update(step_token=STEP, step_until=now + timedelta(seconds=30), step_attempts=2)
    said = goes(shift, batch)
    assert "by host-1:4711, attempt 2" in said and "attempt 2, held by host-1:4711 for 2" in said
    assert "f" * 16 not in shift.get(page(batch)).content.decode()
    rows.update(step_until=now - timedelta(seconds=1))
    assert "again and again without an end (2 attempts)" in goes(shift, batch)


@pytest.mark.sqlite_first
def test_why_lines_failed(shift: Client, owner: Person) -> None:
    now = clock.now()
    [batch] = make_batches(owner.tenant, status="completed", completed=3, failed=7, last_result_at=now)
    common = {"tenant": owner.tenant, "batch": batch, "finished_at": now, "segment_id": 1, "offset": 0, "length": 9}
    for line in range(1, 8):
        kind = {"error_code": "upstream_error", "status_code": 429} if line < 6 else {"error_code": "request_timeout"}
        Result.objects.create(**common, **kind, line=line, seq=line, custom_id=str(line))
    said = goes(shift, batch)
    assert "7 of its lines were not delivered" in said and "429 5 " in said and "request_timeout 2 " in said
    assert " ago" in said
    [bad] = make_batches(owner.tenant, status="failed", errors='{"data": [], "counts": {"missing_model": 4}}')
    assert "Its input is not valid" in goes(shift, bad) and "missing_model 4 " in goes(shift, bad)
    [fine] = make_batches(owner.tenant, status="completed", completed=10)
    assert "Every line was delivered: nothing to do." in goes(shift, fine)


@pytest.mark.sqlite_only
def test_the_panel_is_escaped(shift: Client, owner: Person) -> None:
    batch = running(owner.tenant, waiting_reason=f"x: {NAUGHTY}")
    Slice.objects.update(model=NAUGHTY)
    Upstream.objects.create(model=NAUGHTY, base_url=f"http://{NAUGHTY}")
    assert "<script>alert" not in shift.get(page(batch)).content.decode()
    assert NAUGHTY in goes(shift, batch)
