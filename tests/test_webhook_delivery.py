"""Ends of batches reach a real web server: signed, once each, again after failures, and nobody waits for another."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_q.models import OrmQ

from batches import lifecycle, sweeping, tasks
from batches.core import webhooks
from batches.core.states import Status
from batches.models import Batch, WebhookDelivery
from batches.webhooks import sending
from tenants.models import Tenant
from tests.conftest import Person
from tests.hooks import deliver, deliveries, end, endpoint, pass_time, post
from tests.receiver import Handler, Receiver, verified
from tests.test_engine import Work
from tests.test_web import make_batches
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first


def cancelled(owner: Person) -> str:
    batch = owner.submit([request_line("1", custom_id="a")]).json()["id"]
    assert owner.post(f"/v1/batch/{batch}/cancel").status_code == 200
    return str(batch)


def expired(owner: Person) -> str:
    batch = owner.submit([request_line("1", custom_id="a")]).json()["id"]
    Batch.objects.update(deadline=timezone.now() - timedelta(seconds=1))
    sweeping.sweep()
    return str(batch)


ENDS: dict[str, Callable[[Person], str]] = {
    "batch.completed": lambda owner: str(owner.submit([request_line("1", custom_id="a")]).json()["id"]),
    "batch.failed": lambda owner: str(owner.submit([b"no JSON"]).json()["id"]),
    "batch.cancelled": cancelled,
    "batch.expired": expired,
}


@pytest.mark.parametrize("kind", ENDS)
def test_each_end_is_told_of_once(kind: str, owner: Person, witness: Witness, work: Work, receiver: Receiver) -> None:
    made = endpoint(owner, receiver.url)
    batch = ENDS[kind](owner)
    work()
    deliver()
    deliver()
    (received,) = receiver.received
    assert verified(received, made["signing_secret"]) and received.path == "/hooks?of=owner"
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert received.headers["content-type"] == "application/json"
    row = Batch.objects.get(public_id=batch)
    assert row.ended_at is not None
    at = int(row.ended_at.timestamp())
    event = {"id": received.headers["webhook-id"], "object": "event", "created_at": at, "type": kind}
    assert received.event == event | {"data": {"id": batch}}
    (logged,) = deliveries(owner, made)
    assert (logged["id"], logged["type"], logged["data"]) == (event["id"], kind, {"id": batch})
    assert (logged["status"], logged["attempts"], logged["response_status"]) == ("delivered", 1, 200)


@pytest.mark.sqlite_first
def test_only_who_wants_it_is_told(owner: Person, outsider: Person, receiver: Receiver) -> None:
    wanting = endpoint(owner, receiver.url + "&n=1")
    also = endpoint(owner, receiver.url + "&n=2", event_types=["batch.failed", "batch.completed"])
    other = endpoint(owner, receiver.url + "&n=3", event_types=["batch.failed"])
    off = endpoint(owner, receiver.url + "&n=4")
    assert post(owner, f"/{off['id']}", {"enabled": False}).json()["disabled_reason"] == "by_tenant"
    foreign = endpoint(outsider, receiver.url + "&n=5")
    end(owner)
    deliver()
    assert sorted(each.path[-1] for each in receiver.received) == ["1", "2"]
    assert len({each.event["id"] for each in receiver.received}) == 1, "one event at both"
    assert len(deliveries(owner, wanting)) == len(deliveries(owner, also)) == 1
    assert not deliveries(owner, other) and not deliveries(owner, off) and not deliveries(outsider, foreign)


def test_an_end_that_is_rolled_back_is_not_told_of(owner: Person, receiver: Receiver) -> None:
    endpoint(owner, receiver.url)
    [batch] = make_batches(owner.tenant, status=Status.FINALIZING)
    OrmQ.objects.all().delete()

    def ends_and_fails() -> None:
        with transaction.atomic():
            assert lifecycle.transition(batch.pk, Status.COMPLETED)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        ends_and_fails()
    assert not WebhookDelivery.objects.exists() and not OrmQ.objects.exists()
    assert lifecycle.transition(batch.pk, Status.COMPLETED)
    assert not lifecycle.transition(batch.pk, Status.COMPLETED), "it has ended"
    assert WebhookDelivery.objects.count() == 1 and OrmQ.objects.count() == 1


def test_an_end_that_can_not_be_written_down_is_none(
    owner: Person, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint(owner, receiver.url)
    [batch] = make_batches(owner.tenant, status=Status.FINALIZING)
    monkeypatch.setattr(tasks, "ring_deliver", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lifecycle.transition(batch.pk, Status.COMPLETED)
    batch.refresh_from_db()
    assert batch.status == Status.FINALIZING and not WebhookDelivery.objects.exists()


@pytest.mark.sqlite_only
def test_without_an_endpoint_an_end_costs_one_query(owner: Person) -> None:
    [batch] = make_batches(owner.tenant, status=Status.FINALIZING)
    with CaptureQueriesContext(connection) as captured:
        lifecycle.transition(batch.pk, Status.COMPLETED)
    assert len([query for query in captured if "webhook" in query["sql"]]) == 1


# --- what becomes of an attempt ---------------------------------------------------------------------------------------


def dribble(handler: Handler) -> None:
    """A head that never ends."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(400):
        handler.wfile.write(b"x-%d: y\r\n" % number)
        time.sleep(0.02)


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(10_000):
        handler.wfile.write(b"x" * 65536)


def silent_body(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "5")
    handler.end_headers()
    time.sleep(2)


def hang_up(handler: Handler) -> None:
    handler.connection.shutdown(2)


def garbage(handler: Handler) -> None:
    handler.wfile.write(b"220 mail.example.com ESMTP\r\n")


ANSWERS: list[tuple[Any, int | None, str | None]] = [
    (200, 200, None), (204, 204, None), (299, 299, None), (endless, 200, None), (silent_body, 200, None),
    (400, 400, "http_status"), (404, 404, "http_status"), (500, 500, "http_status"), (503, 503, "http_status"),
    (301, 301, "redirect"), (307, 307, "redirect"), (dribble, None, "timeout"),
    (hang_up, None, "invalid_response"), (garbage, None, "invalid_response"),
]  # fmt: skip


@pytest.mark.sqlite_only
def test_what_an_answer_means(owner: Person, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "TOTAL", 0.5)
    monkeypatch.setattr(sending, "POLITE_SECONDS", 0.2)
    made = endpoint(owner, receiver.url)
    for number, (answer, status, error) in enumerate(ANSWERS, 1):
        receiver.answers = [answer]
        end(owner)
        began = time.monotonic()
        deliver()
        assert time.monotonic() - began < 2
        logged = deliveries(owner, made)[0]
        state = "pending" if error else "delivered"
        assert (logged["status"], logged["response_status"], logged["error"]) == (state, status, error), answer
        assert len(receiver.received) == number and (logged["next_attempt_at"] is not None) == bool(error)


@pytest.mark.sqlite_only
def test_nobody_listens(owner: Person, receiver: Receiver) -> None:
    made = endpoint(owner, "http://127.0.0.1:1/")
    end(owner)
    deliver()
    assert deliveries(owner, made)[0]["error"] == "connection_failed"


@pytest.mark.sqlite_first
def test_attempts_follow_the_schedule_and_end(owner: Person, receiver: Receiver) -> None:
    receiver.answers = [500] * 99
    made = endpoint(owner, receiver.url)
    end(owner)
    for attempt in range(1, webhooks.MAX_ATTEMPTS):
        deliver()
        deliver()  # before its time
        row = WebhookDelivery.objects.get()
        assert row.last_at is not None and row.next_at is not None
        wait = (row.next_at - row.last_at).total_seconds()
        assert wait == pytest.approx(webhooks.DELAYS[attempt - 1], rel=webhooks.SPREAD + 0.01)
        assert row.attempts == len(receiver.received) == attempt
        pass_time()
    deliver()
    pass_time()
    deliver()
    (logged,) = deliveries(owner, made)
    assert (logged["status"], logged["error"], logged["attempts"]) == ("failed", "http_status", webhooks.MAX_ATTEMPTS)
    assert len(receiver.received) == webhooks.MAX_ATTEMPTS
    assert len({each.body for each in receiver.received}) == 1, "the same event, the same bytes"
    assert all(verified(each, made["signing_secret"]) for each in receiver.received)
    assert post(owner, f"/{made['id']}/deliveries/{logged['id']}/replay").status_code == 200
    receiver.answers = []
    deliver()
    (logged,) = deliveries(owner, made)
    assert (logged["status"], logged["attempts"], logged["error"]) == ("delivered", 1, None)
    assert len({each.headers["webhook-id"] for each in receiver.received}) == 1


@pytest.mark.sqlite_first
def test_an_endpoint_that_is_gone_is_disabled(owner: Person, receiver: Receiver) -> None:
    made = endpoint(owner, receiver.url)
    receiver.answers = [410]
    end(owner)
    end(owner)
    deliver()
    end(owner)
    pass_time()
    sweeping.sweep()
    deliver()
    assert len(receiver.received) == 1
    assert {(each["status"], each["error"]) for each in deliveries(owner, made)} == {
        ("failed", "http_status"),
        ("failed", "endpoint_disabled"),
    }
    shown = owner.get(f"/v1/webhook_endpoints/{made['id']}").json()
    assert (shown["enabled"], shown["disabled_reason"]) == (False, "gone")
    replay = f"/{made['id']}/deliveries/{deliveries(owner, made)[0]['id']}/replay"
    assert post(owner, replay).json()["error"]["code"] == "webhook_disabled"
    assert post(owner, f"/{made['id']}", {"enabled": True}).json()["disabled_reason"] is None
    assert post(owner, replay).status_code == 200
    deliver()
    assert len(receiver.received) == 2


def test_a_suspended_tenants_events_wait(owner: Person, receiver: Receiver) -> None:
    endpoint(owner, receiver.url)
    end(owner)
    Tenant.objects.update(suspended=True)
    deliver()
    assert not receiver.received
    Tenant.objects.update(suspended=False)
    deliver()
    assert len(receiver.received) == 1
