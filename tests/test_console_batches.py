"""What staff do to batches in the console, and how they find them: asked first, on the tenant's trail, by the indexes."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from batches import lifecycle, tasks
from batches.console import levers
from batches.core.states import Status
from batches.models import Batch, Submission
from tenants import clock
from tenants.models import AuditEvent, Tenant
from tests.conftest import Person, step
from tests.staff import confirmed, member_of, signed_in
from tests.test_engine import Work, numbered
from tests.test_pause import paused, submit
from tests.test_resume import at_once
from tests.test_retry_batch import BROKEN, cancelled, ended
from tests.test_web import NAUGHTY, make_batches
from tests.witness import Witness

pytestmark = pytest.mark.postgres_first

LIST = "/admin/batches/batch/"
MOST_QUERIES = 15
WHY = "ticket 4711"


@pytest.fixture
def operations(owner: Person) -> Client:
    return signed_in(member_of("operations"))


def page(batch: Batch, rest: str = "change/") -> str:
    return f"{LIST}{batch.pk}/{rest}"


def text(answer: Any) -> str:
    assert answer.status_code == 200
    return unescape(answer.content.decode())


def told(tenant: Tenant) -> list[tuple[str, str, str, Any]]:
    """What the tenant reads of it."""
    rows = AuditEvent.objects.filter(tenant=tenant).order_by("pk")
    return list(rows.values_list("actor", "action", "target", "details"))


def asked(client: Client, action: str, *rows: Batch) -> str:
    return text(client.post(LIST, {"action": action, "_selected_action": [row.pk for row in rows]}))


def act(client: Client, action: str, *rows: Batch) -> str:
    return unescape(confirmed(client, LIST, action, *rows, reason=WHY))


def buttons(client: Client, batch: Batch) -> list[str]:
    """The actions that the row's page offers."""
    return re.findall(r'name="action" value="(\w+)" class="row-action"', text(client.get(page(batch))))


def test_to_be_cancelled_is_asked_first(operations: Client, owner: Person) -> None:
    soon: dict[str, Any] = {"deadline": clock.now() + timedelta(minutes=30), "status": "in_progress"}
    batches = make_batches(owner.tenant, 3, completed=4, failed=1, **soon)
    Batch.objects.filter(pk=batches[0].pk).update(deadline=clock.now() + timedelta(hours=20), completed=1)
    [finished] = make_batches(owner.tenant, status=Status.COMPLETED)
    with CaptureQueriesContext(connection) as captured:
        html = asked(operations, "cancel", *batches, finished)
    assert len(captured) <= MOST_QUERIES
    assert "Cancel: 3 batches?" in html and "3 batches, 18 lines left, 2 of them due in less than an hour." in html
    assert f"{batches[1].public_id}: owner, In progress, 5 of 10 lines done, 1 failed, due in 29 min" in html
    assert re.search(rf"Left alone:.*{finished.public_id}: .*It has ended: it is completed\.", html, re.DOTALL)
    assert not AuditEvent.objects.exists() and Batch.objects.filter(status="in_progress").count() == 3


@pytest.mark.sqlite_first
def test_the_page_that_asks_costs_the_same_for_many(operations: Client, owner: Person) -> None:
    rows = make_batches(owner.tenant, 40, status="in_progress")
    with CaptureQueriesContext(connection) as few:
        asked(operations, "pause", *rows[:1])
    with CaptureQueriesContext(connection) as many:
        asked(operations, "pause", *rows)
    assert len(many) == len(few)


@pytest.mark.sqlite_only
def test_a_cancelled_batch_is_on_its_tenants_trail(operations: Client, owner: Person, witness: Witness) -> None:
    batch = submit(owner, numbered(3))
    assert "Cancel: done to 1 batch" in act(operations, "cancel", batch)
    batch.refresh_from_db()
    assert batch.cancelling_at is not None
    assert told(owner.tenant) == [("staff@example.com", "batch.cancelled", batch.public_id, {"reason": WHY})]
    act(operations, "cancel", batch)
    assert len(told(owner.tenant)) == 1
    assert not Submission.objects.exists()  # its POST sent again is a new one: its id has arrived


@pytest.mark.sqlite_only
def test_a_reason_is_asked_for(operations: Client, owner: Person) -> None:
    [batch] = make_batches(owner.tenant, status="in_progress")
    for action in ("cancel", "pause"):
        html = unescape(confirmed(operations, LIST, action, batch, reason=" "))
        assert "This field is required" in html
    batch.refresh_from_db()
    assert (batch.status, batch.paused_reason) == ("in_progress", "") and not AuditEvent.objects.exists()


@pytest.mark.sqlite_first
def test_staff_pause_and_let_go_on(operations: Client, owner: Person, witness: Witness) -> None:
    batch = submit(owner, numbered(3))
    assert set(buttons(operations, batch)) == {"cancel", "pause", "raise_priority"}
    assert "stay promised" in asked(operations, "pause", batch)
    assert "Pause: done to 1 batch" in act(operations, "pause", batch)
    batch.refresh_from_db()
    assert (batch.paused_reason, batch.held_back) == ("operator", False)
    assert set(buttons(operations, batch)) == {"cancel", "go_on", "raise_priority"}
    assert "It is paused already: by the operator." in asked(operations, "pause", batch)
    assert "Go on: done to 1 batch" in act(operations, "go_on", batch)
    batch.refresh_from_db()
    assert batch.paused_reason == ""
    assert [(action, details) for _, action, _, details in told(owner.tenant)] == [
        ("batch.paused", {"reason": WHY}), ("batch.resumed", {}),
    ]  # fmt: skip


@pytest.mark.sqlite_only
def test_a_tenants_own_pause_is_not_for_staff_to_end(operations: Client, owner: Person, witness: Witness) -> None:
    batch = paused(owner)
    assert "it is its tenant's to resume" in asked(operations, "go_on", batch)
    act(operations, "go_on", batch)
    batch.refresh_from_db()
    assert batch.paused_reason == "max_cost_usd" and not AuditEvent.objects.filter(tenant=owner.tenant).exists()


@pytest.mark.sqlite_only
def test_a_batch_that_ends_meanwhile_is_left_alone(
    operations: Client, owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at it and the doing: the compare-and-set says no."""
    [batch] = make_batches(owner.tenant, status="in_progress")
    pause = lifecycle.pause_by_operator

    def late(row: Batch) -> bool:
        lifecycle.transition(row.pk, Status.CANCELLING)
        return pause(row)

    monkeypatch.setattr(lifecycle, "pause_by_operator", late)
    assert "does not run any more, or is paused already" in act(operations, "pause", batch)
    assert not AuditEvent.objects.exists()


@pytest.mark.sqlite_only
def test_a_batch_is_raised_and_lowered(operations: Client, owner: Person, witness: Witness) -> None:
    batch = submit(owner, numbered(3))
    assert "no deadline is put in danger" in asked(operations, "raise_priority", batch)
    assert "Raise priority: done to 1 batch" in act(operations, "raise_priority", batch)
    assert set(buttons(operations, batch)) == {"cancel", "pause", "lower_priority"}
    assert "It was raised before" in act(operations, "raise_priority", batch)
    assert "Lower priority: done to 1 batch" in act(operations, "lower_priority", batch)
    batch.refresh_from_db()
    assert not batch.raised and [(action, details) for _, action, _, details in told(owner.tenant)] == [
        ("batch.raised", {"reason": WHY}), ("batch.lowered", {}),
    ]  # fmt: skip


@pytest.mark.sqlite_first
def test_what_failed_is_run_again(operations: Client, owner: Person, witness: Witness, work: Work) -> None:
    witness.configure(lasting_rates=BROKEN)
    batch = ended(owner, work, numbered(20))
    left = batch.failed
    assert left and buttons(operations, batch) == ["retry"]
    html = asked(operations, "retry", batch)
    assert f"1 batch: {left} lines that were not delivered" in html and "charged for what they deliver" in html
    assert "paid for twice" not in html
    witness.configure(lasting_rates={})
    html = act(operations, "retry", batch)
    made = Batch.objects.get(retry_of=batch)
    assert f"Run again as {made.public_id}: what {batch.public_id} did not deliver." in html
    assert (made.total, made.tenant, made.api_key) == (left, owner.tenant, None)
    assert f"it was done before, as {made.public_id}: what these deliver would be paid for twice" in asked(
        operations, "retry", batch
    )
    assert f"and were run again: look at {made.public_id}." in text(operations.get(f"{LIST}{batch.pk}/change/"))
    noted = {"retry_of": batch.public_id, "reason": WHY}
    assert told(owner.tenant) == [("staff@example.com", "batch.retried", made.public_id, noted)]
    step("validating", tasks.validate)
    work()
    made.refresh_from_db()
    assert (made.status, made.completed) == (Status.COMPLETED, left) and made.cost > 0


def test_one_answer_makes_one_retry(operations: Client, owner: Person, witness: Witness) -> None:
    """Sent twice at once by a double click, and once more later."""
    batch = cancelled(owner, 3)
    other = cancelled(owner, 2)
    data = {"action": "retry", "_selected_action": [batch.pk, other.pk]}
    once = re.search(r'name="once" value="(\w+)"', text(operations.post(LIST, data)))
    assert once
    answer = data | {"confirmed": "yes", "once": once[1], "reason": WHY}
    clients = [Client() for _ in range(4)]
    for each in clients:
        each.cookies = operations.cookies
    statuses = at_once(4, lambda number: clients[number].post(LIST, answer).status_code)
    assert statuses == [302] * 4
    for row in (batch, other):
        assert Batch.objects.filter(retry_of=row).count() == 1
    assert len(told(owner.tenant)) == 2
    made = Batch.objects.get(retry_of=batch).public_id
    again = text(operations.post(LIST, answer, follow=True))
    assert f"This page has been answered before: it is run again as {made}." in again
    act(operations, "retry", batch)  # asked anew, it is meant
    assert Batch.objects.filter(retry_of=batch).count() == 2


@pytest.mark.sqlite_only
def test_only_what_has_something_left_is_run_again(operations: Client, owner: Person) -> None:
    fields: Any
    for fields, why in (
        ({"status": "in_progress"}, "It has not ended"),
        ({"status": "failed"}, "It never ran: its input is not valid."),
        ({"status": "completed", "completed": 10}, "Every line was delivered."),
    ):
        [batch] = make_batches(owner.tenant, **fields)
        assert why in asked(operations, "retry", batch)
        assert why in act(operations, "retry", batch)
    assert Batch.objects.count() == 3 and not AuditEvent.objects.exists()


@pytest.mark.sqlite_only
def test_few_are_run_again_at_once(operations: Client, owner: Person) -> None:
    rows = make_batches(owner.tenant, levers.MOST_RETRIES + 1, status="cancelled")
    answer = operations.post(LIST, {"action": "retry", "_selected_action": [row.pk for row in rows]}, follow=True)
    assert f"more than {levers.MOST_RETRIES} at once" in text(answer)


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("group", "may"),
    [("billing", set()), ("support", {"cancel", "pause"}), ("operations", {"cancel", "pause", "raise_priority"})],
)
def test_groups_do_what_is_theirs(owner: Person, group: str, may: set[str]) -> None:
    client = signed_in(member_of(group))
    [batch] = make_batches(owner.tenant, status="in_progress")
    assert set(buttons(client, batch)) == may
    for action in {"cancel", "pause", "raise_priority", "retry"} - may:
        act(client, action, batch)
    batch.refresh_from_db()
    assert (batch.status, batch.paused_reason, batch.raised) == ("in_progress", "", False)
    assert not AuditEvent.objects.exists()


def found(client: Client, **query: str) -> set[str]:
    answer = client.get(LIST, query)
    assert answer.status_code == 200
    return {batch.public_id for batch in answer.context["cl"].result_list}


@pytest.mark.sqlite_first
def test_a_batch_is_found(operations: Client, owner: Person, outsider: Person) -> None:
    [mine, done] = make_batches(owner.tenant, 2, model="small", status="in_progress")
    Batch.objects.filter(pk=done.pk).update(status="completed")
    [other] = make_batches(outsider.tenant, model="large", status="in_progress")
    file = mine.input_file.public_id
    for term, wanted in (
        (other.public_id, {other}), (f" {other.public_id[:14]} ", {other}), ("batch_", {mine, done, other}),
        ("batch_%", set()), ("OUTSI", {other}), (owner.tenant.public_id, {mine, done}), (file, {mine, done}),
        (file[:-1], set()), ("small", {mine}), ("smal", set()), (NAUGHTY, set()),
    ):  # fmt: skip
        assert found(operations, q=term) == {batch.public_id for batch in wanted}, term


@pytest.mark.sqlite_only
def test_the_list_counts_nothing_for_its_filters(operations: Client, owner: Person) -> None:
    make_batches(owner.tenant, 3, status="in_progress")
    with CaptureQueriesContext(connection) as captured:
        html = text(operations.get(LIST, {"_facets": "True"}))
    assert len(captured) <= MOST_QUERIES and "Show counts" not in html


@pytest.mark.sqlite_only
def test_the_list_says_how_they_stand(operations: Client, owner: Person) -> None:
    now = clock.now()
    make_batches(owner.tenant, status="in_progress", paused_reason="operator", deadline=now + timedelta(hours=3))
    make_batches(owner.tenant, status="in_progress", raised=True, expected_at=now + timedelta(hours=9), failed=2)
    make_batches(owner.tenant, status="completed", ended_at=now - timedelta(hours=2), sla_met=False)
    html = text(operations.get(LIST))
    for words in (
        "Paused: by the operator", "due in 2 h 59 min", "In progress, its priority raised", "2 of 10, 2 failed",
        "its deadline has passed, at risk", "2 h ago, 24 hours missed",
    ):  # fmt: skip
        assert words in html, words


@pytest.mark.sqlite_first
def test_troubles_are_filtered(operations: Client, owner: Person) -> None:
    late: dict[str, Any] = {"deadline": clock.now() + timedelta(minutes=5)}
    fine: dict[str, Any] = {"deadline": clock.now() + timedelta(hours=20)}
    fields: Any
    for trouble, fields in (
        ("late", {"status": "in_progress", **late}),
        ("paused", {"status": "in_progress", "paused_reason": "operator", **fine}),
        ("missed", {"status": "completed", "sla_met": False}),
    ):
        [batch] = make_batches(owner.tenant, **fields)
        assert found(operations, trouble=trouble) == {batch.public_id}
    assert len(found(operations, trouble="nonsense")) == 3


@pytest.mark.sqlite_first
def test_what_stands_still_is_stuck(operations: Client, owner: Person) -> None:
    long_ago, now = clock.now() - timedelta(minutes=16), clock.now()
    [batch] = make_batches(owner.tenant, status="in_progress", created_at=long_ago, in_progress_at=long_ago)
    row, tenant = Batch.objects.filter(pk=batch.pk), Tenant.objects.filter(pk=owner.tenant.pk)
    for rows, fields, is_stuck in (
        (row, {}, True), (row, {"last_result_at": now}, False), (row, {"last_result_at": long_ago}, True),
        (row, {"paused_reason": "operator"}, False), (row, {"paused_reason": ""}, True),
        (tenant, {"suspended": True}, False), (tenant, {"suspended": False}, True), (row, {"created_at": now}, False),
        (row, {"created_at": long_ago, "status": "finalizing", "finalizing_at": now}, False),
        (row, {"finalizing_at": long_ago}, True), (row, {"status": "completed"}, False),
    ):  # fmt: skip
        rows.update(**fields)
        assert bool(found(operations, trouble="stuck")) is is_stuck, fields


@pytest.mark.sqlite_only
def test_every_commit_says_when(owner: Person, witness: Witness, work: Work) -> None:
    began = clock.now()
    batch = ended(owner, work, numbered(3))
    assert batch.last_result_at is not None and began <= batch.last_result_at <= clock.now()


@pytest.mark.sqlite_only
def test_names_are_escaped(operations: Client, owner: Person) -> None:
    Tenant.objects.filter(pk=owner.tenant.pk).update(name=NAUGHTY)
    fields: Any = {"filename": NAUGHTY, "model": NAUGHTY, "metadata": f'{{"a": "{NAUGHTY}"}}', "errors": NAUGHTY}
    [batch] = make_batches(owner.tenant, status="in_progress", **fields)
    data = {"action": "cancel", "_selected_action": [batch.pk]}
    for answer in (operations.get(page(batch)), operations.get(LIST), operations.post(LIST, data)):
        assert "<script>alert" not in answer.content.decode()


INDEXED = [
    ({"q": "batch_1234"}, "public_id"), ({"status__exact": "in_progress"}, "batch_active"),
    ({"status__exact": "failed"}, "batch_undelivered"), ({"trouble": "missed"}, "batch_missed"),
    *(({"trouble": trouble}, "batch_active") for trouble in ("stuck", "late", "paused", "raised")),
]  # fmt: skip


@pytest.mark.parametrize(("query", "index"), INDEXED)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="its plans")
def test_what_is_looked_for_is_read_by_an_index(
    operations: Client, owner: Person, query: dict[str, str], index: str
) -> None:
    """That it can be: with a few rows PostgreSQL reads them all, unless it is told not to."""
    make_batches(owner.tenant, 60, status="completed")
    make_batches(owner.tenant, 3, status="in_progress")
    with CaptureQueriesContext(connection) as captured:
        operations.get(LIST, query)
    (counting,) = [each["sql"] for each in captured if "COUNT(" in each["sql"] and '"batches_batch"' in each["sql"]]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("ANALYZE batches_batch, tenants_tenant")  # that it knows how few are looked for
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {counting}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert index in plan and "Seq Scan on batches_batch" not in plan, plan
