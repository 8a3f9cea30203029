"""The home of the console: its figures, what needs somebody, who sees which card, and how little it asks."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags
from django_q.models import Failure, OrmQ

from batches.attainment import Attainment
from batches.console import home, promises, troubles
from batches.console.figures import Figures
from batches.console.use import Used
from batches.core import caps
from batches.core.states import Status
from batches.models import Batch, Permit, Runner, Slice, Upstream, Usage, WebhookDelivery, WebhookEndpoint
from billing import ledger, prices
from billing.models import Customer, Invoice
from provocative import queue_health
from tenants import clock
from tenants.models import Tenant
from tests.conftest import Person, person
from tests.staff import member_of, signed_in
from tests.test_web import NAUGHTY, make_batches

pytestmark = pytest.mark.postgres_first

HOME, CARDS = "/admin/", "/admin/home/"
MOST_QUERIES = 16
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
USD = 10**12
ALL = frozenset(home.PERMISSIONS)


@pytest.fixture
def owner(db: None) -> Person:
    """Nothing here is of several connections: what was written is rolled back."""
    return person("owner")


@pytest.fixture
def outsider(db: None) -> Person:
    return person("outsider")


@pytest.fixture
def root(owner: Person) -> Client:
    return signed_in(member_of(email="root@example.com", is_superuser=True))


@pytest.fixture
def now(owner: Person) -> datetime:
    return clock.now()


def figures() -> Figures:
    return home.home(ALL, queue_health.figures()).figures


def alerted() -> dict[str, str]:
    return {alert.name: alert.text for alert in home.home(ALL, queue_health.figures()).alerts}


def running(tenant: Tenant, now: datetime, **fields: Any) -> Batch:
    """A batch that is run, in no trouble."""
    usual: dict[str, Any] = {"status": Status.IN_PROGRESS, "in_progress_at": now - MINUTE, "deadline": now + 20 * HOUR}
    [batch] = make_batches(tenant, **usual | {"expected_at": now + HOUR} | fields)
    return batch


def cut(batch: Batch, index: int = 0, **fields: Any) -> Slice:
    """A slice of it, of ten lines."""
    usual = {"model": batch.model, "offset": 0, "length": 9, "lines": 10, "tokens": 30, "entries": b""}
    return Slice.objects.create(tenant_id=batch.tenant_id, batch=batch, index=index, **usual | fields)


def upstream(model: str = "m", **fields: Any) -> Upstream:
    """One that is on, and priced."""
    if not prices.now_in_force(model):
        prices.set_price(model, "0.15", "0.60")
    return Upstream.objects.create(model=model, base_url=f"http://{model}/v1", max_in_flight=8, **fields)


def runner(now: datetime, name: str = "r", **fields: Any) -> Runner:
    usual = {"host": "h", "pid": 1, "started_ticks": 1, "created_at": now, "lease_until": now + MINUTE}
    return Runner.objects.create(token=name, **usual | fields)


def queued(cluster: str, age: timedelta, now: datetime) -> None:
    OrmQ.objects.create(key=cluster, payload="x", lock=now - age)


@pytest.mark.sqlite_first
def test_the_promise_is_counted_by_month(owner: Person, outsider: Person, now: datetime) -> None:
    month = clock.midnight(now.date().replace(day=1))
    ended: dict[str, Any] = {"status": Status.COMPLETED, "sla_met": True}
    make_batches(owner.tenant, 2, ended_at=month, **ended)
    make_batches(outsider.tenant, ended_at=month, **ended | {"sla_met": False})
    make_batches(owner.tenant, 3, ended_at=month - timedelta(seconds=1), **ended)
    make_batches(owner.tenant, ended_at=month, **ended | {"sla_met": None})
    make_batches(owner.tenant, ended_at=month - timedelta(days=40), **ended)
    found = promises.promises(now)
    assert (found.this, found.last) == (Attainment(3, 2), Attainment(3, 3))


@pytest.mark.sqlite_first
def test_the_most_pressing_are_named_and_the_others_counted(owner: Person, now: datetime) -> None:
    late = [running(owner.tenant, now, deadline=now + n * MINUTE, completed=n) for n in range(12, 0, -1)]
    running(owner.tenant, now)
    found = promises.promises(now)
    assert (found.at_risk, found.more) == (12, False)
    assert [one.pk for one in found.pressing] == [batch.pk for batch in reversed(late)][:10]
    assert (found.pressing[1].tenant, found.pressing[1].percent) == ("owner", 20)
    make_batches(owner.tenant, 100, status=Status.IN_PROGRESS)
    found = promises.promises(now)
    assert (found.at_risk, found.more) == (100, True)


def test_what_waits_stands_beside_what_serves_it(owner: Person, outsider: Person, now: datetime) -> None:
    shared, own = upstream(), upstream(tenant=outsider.tenant)
    Upstream.objects.create(model="m", base_url="http://other/v1", enabled=False)
    Permit.objects.create(upstream=shared, runner=runner(now), slots=5, in_flight=4)
    for tenant, batch in ((owner.tenant, running(owner.tenant, now)), (outsider.tenant, running(outsider.tenant, now))):
        cut(batch)
        cut(batch, 1, state=Slice.State.LEASED, lines=3)
        cut(batch, 2, state=Slice.State.DONE, lines=100)
        assert batch.tenant_id == tenant.pk
    cut(running(owner.tenant, now, paused_reason=caps.MAX_COST, expected_at=None))
    lanes = {(lane.model, lane.owner): lane for lane in figures().lanes}
    ours, theirs = lanes["m", ""], lanes["m", "outsider"]
    assert (ours.batches, ours.waiting, ours.in_hand, ours.held) == (2, 10, 3, 10)
    assert (ours.upstreams, ours.slots, ours.in_flight) == (1, 8, 4)
    assert (theirs.batches, theirs.waiting, theirs.in_hand, theirs.slots) == (1, 10, 3, 8)
    assert ours.ends == now + HOUR and own.pk


@pytest.mark.sqlite_first
def test_upstreams_and_runners(owner: Person, now: datetime) -> None:
    on, off = upstream(), upstream("o", enabled=False)
    resting = upstream("z", cooling_until=now + MINUTE)
    live, dead = runner(now), runner(now, "dead", lease_until=now - MINUTE)
    runner(now, "successor", draining=True)
    told = {"slots": 5, "in_flight": 4, "answers": 30, "throttled": 20, "errors": 20, "tokens": 6000}
    Permit.objects.create(upstream=on, runner=live, **told)
    Permit.objects.create(upstream=on, runner=dead, **told)
    found = figures()
    assert [(one.pk, one.state) for one in found.doing] == [
        (on.pk, "failing"), (resting.pk, "resting"), (off.pk, "off"),
    ]  # fmt: skip
    assert found.doing[0].now[3:] == (4, 30, 20, 20, 6000) and found.doing[0].tokens_per_second == 100
    [host] = found.hosts
    assert host == ("h", 1, 1, 1, 4)


def test_use_is_of_all_tenants_and_of_the_most_busy(owner: Person, outsider: Person, now: datetime) -> None:
    month = now.date().replace(day=1)
    of = {"model": "m", "completed": 2, "failed": 1, "input_tokens": 100, "output_tokens": 10, "cost": 5 * USD}
    for tenant, day in ((owner.tenant, now.date()), (outsider.tenant, now.date()), (owner.tenant, month)):
        Usage.objects.create(tenant=tenant, batch=make_batches(tenant)[0], day=day, **of)
    Usage.objects.create(tenant=owner.tenant, batch=make_batches(owner.tenant)[0], day=month - timedelta(days=1), **of)
    found = figures().use
    assert found
    busy = 2 if month < now.date() else 3
    assert found.tenants == 2 and found.month == Used(9, 330, 15 * USD)
    assert found.today == Used(*(n * busy for n in (3, 110, 5 * USD)))
    assert [(user.name, user.month) for user in found.most] == [
        ("owner", Used(6, 220, 10 * USD)), ("outsider", Used(3, 110, 5 * USD)),
    ]  # fmt: skip


def test_the_months_money(owner: Person, now: datetime) -> None:
    tenant = owner.tenant.pk
    for kind, reference, amount in (
        ("batch_charge", "b1", 7 * USD), ("batch_charge", "b2", 2 * USD), ("credit_grant", "g", 3 * USD),
        ("sla_credit", "b1", USD), ("credit_purchase", "p", 4 * USD), ("payment", "i", 5 * USD),
    ):  # fmt: skip
        entry = ledger.post(tenant, kind, reference, amount)
        assert entry
        if reference == "b2":
            ledger.correct(entry, "why")
    for cents, month, fields in (
        (150, 1, {}), (250, 2, {"send_at": now, "send_error": "it does not answer", "send_attempts": 3}),
        (990, 3, {"status": "paid"}),
    ):  # fmt: skip
        Invoice.objects.create(
            tenant=owner.tenant, month=now.date().replace(month=month, day=1), due=0, cents=cents, **fields
        )
    found = figures()
    assert found.takings == (9 * USD, 2 * USD, 3 * USD, USD, 0, 4 * USD, 5 * USD)
    assert found.dues == (2, 4 * USD, 0, 0, 1)
    Customer.objects.create(tenant=owner.tenant, past_due_since=now)
    assert figures().dues == (2, 4 * USD, 2, 4 * USD, 1)


def no_runner(tenant: Tenant, now: datetime) -> None:
    upstream()
    cut(running(tenant, now))


def no_upstream(tenant: Tenant, now: datetime) -> None:
    upstream(enabled=False)
    cut(running(tenant, now))
    runner(now)


def late(tenant: Tenant, now: datetime) -> None:
    running(tenant, now, expected_at=now + 21 * HOUR)


def long_ago(now: datetime) -> dict[str, datetime]:
    return {"created_at": now - 3 * HOUR, "in_progress_at": now - 2 * HOUR}


def stuck(tenant: Tenant, now: datetime) -> None:
    running(tenant, now, **long_ago(now))


def failing_step(tenant: Tenant, now: datetime) -> None:
    running(tenant, now, status=Status.FINALIZING, step_attempts=3)


def never_closing(tenant: Tenant, now: datetime) -> None:
    running(tenant, now, status=Status.CANCELLING, cancelling_at=now - HOUR, **long_ago(now))


def stopped(tenant: Tenant, now: datetime) -> None:
    running(tenant, now, paused_reason=caps.OPERATOR, in_progress_at=now - 2 * HOUR)


def suspended(tenant: Tenant, now: datetime) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(suspended=True)
    running(tenant, now, in_progress_at=now - 2 * HOUR)


def resting(tenant: Tenant, now: datetime) -> None:
    upstream(cooling_until=now + MINUTE)


def refusing(tenant: Tenant, now: datetime) -> None:
    Permit.objects.create(upstream=upstream(), runner=runner(now), answers=5, throttled=20)


def unpriced(tenant: Tenant, now: datetime) -> None:
    Upstream.objects.create(model="free", base_url="http://free/v1")


def chores(tenant: Tenant, now: datetime) -> None:
    queued("chores", 5 * MINUTE, now)


def failures(tenant: Tenant, now: datetime) -> None:
    for days in (0, 2):
        stopped = now - timedelta(days=days)
        Failure.objects.create(
            id=f"{days}", name="f", func="f", started=stopped, stopped=stopped, success=False, result="x"
        )


def gone(tenant: Tenant, now: datetime) -> None:
    of = {"tenant": tenant, "url": "https://x/", "event_types": "batch.failed", "secret": "s", "created_at": now}
    WebhookEndpoint.objects.create(**of, updated_at=now, disabled_reason="gone")


def undelivered(tenant: Tenant, now: datetime, **fields: Any) -> None:
    of = {"tenant": tenant, "url": "https://x/", "event_types": "batch.failed", "secret": "s", "created_at": now}
    endpoint = WebhookEndpoint.objects.create(**of, updated_at=now)
    told = {"state": "failed", "last_at": now} | fields
    WebhookDelivery.objects.create(
        tenant=tenant, endpoint=endpoint, event_id="e", event_type="batch.failed", subject="b", created_at=now, **told
    )


def retried(tenant: Tenant, now: datetime) -> None:
    undelivered(tenant, now, state="pending", attempts=3, next_at=now)


def unsent(tenant: Tenant, now: datetime) -> None:
    Invoice.objects.create(
        tenant=tenant, month=now.date().replace(day=1), due=0, cents=1, send_at=now, send_error="no answer"
    )


CAUSES: dict[str, tuple[Callable[[Tenant, datetime], None], str]] = {
    "runners": (no_runner, "10 lines wait, and no runner is alive."),
    "stranded": (no_upstream, "10 lines wait for m: no upstream of it is on."),
    "late": (late, "1 batch will hardly be there within 24 hours."),
    "stuck": (stuck, "1 batch is stuck"),
    "stuck ": (failing_step, "1 batch is stuck"),
    "stuck  ": (never_closing, "1 batch is stuck"),
    "stopped": (stopped, "1 batch is paused by an operator"),
    "suspended": (suspended, "1 batch of suspended tenants waits."),
    "resting": (resting, "1 upstream failed and rests: m at http://m/v1 until "),
    "refusing": (refusing, "m at http://m/v1 (20 refused, 0 failed, 5 answered)."),
    "free": (unpriced, "Without a price, lines are free: free."),
    "chores": (chores, "1 chore in the queue, the first for 5 min"),
    "tasks": (failures, "1 task failed in the last day."),
    "gone": (gone, "1 webhook endpoint answered 410"),
    "deliveries": (undelivered, "1 given up in the last day, 0 tried"),
    "deliveries ": (retried, "0 given up in the last day, 1 tried"),
    "unsent": (unsent, "1 invoice could not be sent"),
}


@pytest.mark.sqlite_first
@pytest.mark.parametrize("name", CAUSES)
def test_each_alert_has_its_cause(owner: Person, root: Client, now: datetime, name: str) -> None:
    cause, text = CAUSES[name]
    cause(owner.tenant, now)
    found = alerted()
    assert list(found) == [name.strip()], found
    assert text in found[name.strip()]
    html = root.get(CARDS).content.decode()
    assert "Needs somebody: 1" in html and text.split(":")[0] in unescape(html)
    link = re.search(rf'id="alert-{name.strip()}" href="([^"]+)"', html)
    assert link is None or root.get(unescape(link[1])).status_code == 200


@pytest.mark.sqlite_first
def test_nothing_needs_anybody_where_all_is_well(owner: Person, root: Client, now: datetime) -> None:
    """All of this is close to an alert, and none."""
    Permit.objects.create(upstream=upstream(cooling_until=now - MINUTE), runner=runner(now), answers=20, throttled=20)
    upstream("o", enabled=False)
    Upstream.objects.filter(model="o").update(cooling_until=now + MINUTE)
    cut(running(owner.tenant, now))
    cut(running(owner.tenant, now, in_progress_at=now - 2 * HOUR, completed=1))
    running(owner.tenant, now, in_progress_at=now - 2 * HOUR, waiting_reason="behind_others: Others come first.")
    running(owner.tenant, now, status=Status.CANCELLING, cancelling_at=now - MINUTE)
    running(owner.tenant, now, status=Status.VALIDATING, step_attempts=2, step_until=now + MINUTE)
    running(owner.tenant, now, paused_reason=caps.MAX_COST)
    make_batches(owner.tenant, status=Status.COMPLETED, step_attempts=9)
    queued("chores", 5 * MINUTE, now)
    queued("runners", 5 * MINUTE, now)
    undelivered(owner.tenant, now, last_at=now - timedelta(days=2))
    assert alerted() == {}
    assert "Nothing needs anybody" in root.get(CARDS).content.decode()


def test_runners_have_a_moment_to_come(owner: Person, now: datetime) -> None:
    upstream()
    cut(running(owner.tenant, now, in_progress_at=now))
    assert alerted() == {}


@pytest.mark.sqlite_only
def test_work_of_a_tenant_with_its_own_upstreams_is_not_served_by_others(
    owner: Person, outsider: Person, now: datetime
) -> None:
    upstream()
    upstream(tenant=owner.tenant, enabled=False)
    runner(now)
    cut(running(owner.tenant, now))
    assert alerted() == {"stranded": "10 lines wait for m of owner: no upstream of it is on."}


TITLES = {"24 hours", "Queue by model", "Upstreams", "Runners and queue", "Runners", "Money", "Tenants by use"}


@pytest.mark.sqlite_only
def test_everybody_sees_their_cards_alone(owner: Person, now: datetime) -> None:
    for cause, _ in CAUSES.values():
        if cause in (unsent, failures, gone, unpriced):
            cause(owner.tenant, now)
    seen = {}
    for group in ("support", "billing", "operations"):
        client = signed_in(member_of(group, email=f"{group}@example.com"))
        html = client.get(CARDS).content.decode()
        titles = {re.sub(r" <small>.*", "", title) for title in re.findall(r'-title">(.*?)</h2>', html)}
        seen[group] = titles & TITLES, set(re.findall(r"alert-(\w+)", html)), "Charged for batches" in html
    common = {"24 hours", "Queue by model", "Upstreams", "Tenants by use"}
    assert seen["support"] == (common | {"Runners", "Money"}, {"free", "gone", "unsent"}, False)
    assert seen["billing"] == (common | {"Money"}, {"free", "unsent"}, True)
    assert seen["operations"] == (common | {"Runners and queue"}, {"free", "gone", "tasks"}, False)
    idle = signed_in(member_of(email="idle@example.com")).get(HOME)
    assert idle.status_code == 200
    assert not TITLES & set(re.findall(r'-title">(.*?)</h2>', idle.content.decode()))


@pytest.mark.sqlite_only
def test_the_cards_are_for_staff_with_their_second_step(client: Client, owner: Person) -> None:
    assert client.get(CARDS)["Location"].startswith("/admin/login/")
    answer = client.get(CARDS, headers={"HX-Request": "true"})
    assert (answer.status_code, answer["HX-Refresh"]) == (401, "true")
    hasty = Client()
    hasty.force_login(member_of("support"))
    assert hasty.get(CARDS).status_code == 302
    assert hasty.get(CARDS, headers={"HX-Request": "true"}).status_code == 401


@pytest.mark.sqlite_only
def test_names_are_text(owner: Person, root: Client, now: datetime) -> None:
    tenant = Tenant.objects.create(name=NAUGHTY)
    cut(running(tenant, now, model=NAUGHTY, deadline=now + MINUTE, waiting_reason=f"x: {NAUGHTY}"))
    Upstream.objects.create(model=NAUGHTY, base_url="http://x/v1", tenant=tenant)
    runner(now, host=NAUGHTY)
    Usage.objects.create(tenant=tenant, batch=make_batches(tenant)[0], model=NAUGHTY, day=now.date(), completed=1)
    html = root.get(HOME).content.decode()
    assert "<script>" not in html and NAUGHTY in unescape(html) and "django" not in strip_tags(html).lower()


def asked(client: Client, page: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(page).status_code == 200
    assert not [query for query in captured if re.search(r"payload|\"args\"|\"result\"|api_key\b", query["sql"])]
    return len(captured)


def test_as_little_is_asked_however_much_there_is(owner: Person, now: datetime) -> None:
    """By somebody of all groups: their permissions take two queries that superusers need not."""
    client = signed_in(member_of("support", "billing", "operations"))
    upstream()
    before = {page: asked(client, page) for page in (HOME, CARDS)}
    for index in range(5):
        tenant = Tenant.objects.create(name=f"tenant {index}")
        upstream(f"m{index}", tenant=tenant)
        runner(now, f"r{index}", host=f"h{index}")
        for batch in make_batches(tenant, 20, status=Status.IN_PROGRESS, in_progress_at=now, deadline=now + MINUTE):
            cut(batch, model=f"m{index}")
            Usage.objects.create(tenant=tenant, batch=batch, model="m", day=now.date(), completed=1)
    assert {page: asked(client, page) for page in (HOME, CARDS)} == before
    assert max(before.values()) <= MOST_QUERIES
    assert troubles.troubles(now) == troubles.Troubles()
