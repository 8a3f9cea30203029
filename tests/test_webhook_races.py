"""Webhooks against crashes, races, receivers that hang, a queue that loses: none is lost, none sent twice at once."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from django_q.models import OrmQ

from batches import lifecycle, sweeping
from batches.core import webhooks
from batches.core.states import Status
from batches.models import WebhookDelivery, WebhookEndpoint
from batches.webhooks import delivering, endpoints, leasing, sending
from tests import crashes, environment
from tests.conftest import Person, until
from tests.hooks import deliver, deliveries, end, endpoint, pass_time
from tests.receiver import Handler, Receiver
from tests.test_resume import at_once
from tests.test_web import make_batches


def test_who_dies_after_sending_sends_again_later(owner: Person, receiver: Receiver) -> None:
    made = endpoint(owner, receiver.url)
    end(owner)
    crashes.die_at(crashes.Point("batches.webhooks.leasing", "settle", "before"), deliver)
    assert len(receiver.received) == 1
    deliver()
    assert len(receiver.received) == 1, "its lease runs"
    assert not delivering.is_due()
    (logged,) = deliveries(owner, made)
    assert (logged["status"], logged["attempts"]) == ("pending", 1)
    pass_time()
    deliver()
    assert [each.headers["webhook-id"] for each in receiver.received] == [logged["id"]] * 2
    (logged,) = deliveries(owner, made)
    assert (logged["status"], logged["attempts"]) == ("delivered", 2)


def test_who_dies_at_the_last_attempt_is_buried(owner: Person, receiver: Receiver) -> None:
    made = endpoint(owner, receiver.url)
    end(owner)
    WebhookDelivery.objects.update(attempts=webhooks.MAX_ATTEMPTS, lease_token="of the dead")
    pass_time()
    assert delivering.is_due()
    deliver()
    (logged,) = deliveries(owner, made)
    assert (logged["status"], logged["error"]) == ("failed", "sender_died") and not receiver.received
    assert not delivering.is_due()


def claims_of_two_workers(monkeypatch: pytest.MonkeyPatch) -> int:
    """Both have chosen before either writes."""
    both, lease = threading.Barrier(2), leasing._lease

    def wait_and_lease(*args: Any) -> bool:
        both.wait(10)
        return lease(*args)

    monkeypatch.setattr(leasing, "_lease", wait_and_lease)
    return sum(len(won) for won in at_once(2, lambda number: leasing.claim(f"worker {number}", ())))


def test_two_workers_never_send_one_at_once(owner: Person, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint(owner, receiver.url)
    end(owner)
    assert claims_of_two_workers(monkeypatch) == 1
    assert WebhookDelivery.objects.get().attempts == 1


def test_without_the_compare_and_set_both_would(
    owner: Person, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint(owner, receiver.url)
    end(owner)

    taken = []

    def read_then_write(pk: int, token: str, now: Any) -> bool:
        WebhookDelivery.objects.filter(pk=pk).update(lease_token=token, next_at=now + leasing.LEASE)
        taken.append(token)
        return True

    monkeypatch.setattr(leasing, "_lease", read_then_write)
    claims_of_two_workers(monkeypatch)
    assert len(taken) == 2


def test_many_workers_and_many_events(owner: Person, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leasing, "held", lambda now: False)  # they would leave the work to the first
    for n in range(4):
        endpoint(owner, f"{receiver.url}&n={n}")
    for _ in range(3):
        end(owner)
    at_once(3, lambda number: deliver())
    assert len(receiver.received) == 12
    assert len({(each.path, each.event["id"]) for each in receiver.received}) == 12
    assert set(WebhookDelivery.objects.values_list("state", "attempts")) == {("delivered", 1)}


def test_who_comes_back_after_its_lease_changes_nothing(owner: Person, receiver: Receiver) -> None:
    made = endpoint(owner, receiver.url)
    end(owner)
    (late,) = leasing.claim("late", ())
    pass_time()
    deliver()
    assert not leasing.settle(late, sending.Outcome(410, "http_status"))
    assert deliveries(owner, made)[0]["status"] == "delivered"
    assert WebhookEndpoint.objects.get().disabled_reason == ""


def test_an_endpoint_deleted_while_an_event_is_written(owner: Person, receiver: Receiver) -> None:
    """The batch ends all the same: neither a foreign key nor a lock of the other's stops it."""
    endpoint(owner, receiver.url)
    [batch] = make_batches(owner.tenant, status=Status.FINALIZING)
    written, deleting = threading.Event(), threading.Event()

    def ends() -> None:
        with transaction.atomic():
            assert lifecycle.transition(batch.pk, Status.COMPLETED)
            written.set()
            deleting.wait(10)
            time.sleep(0.2)  # the other one waits for us, or (without the lock) has deleted it by now

    def deletes() -> None:
        written.wait(10)
        found = WebhookEndpoint(pk=WebhookEndpoint.objects.values_list("pk", flat=True)[0])
        deleting.set()
        endpoints.delete(found, "a test")

    at_once(2, lambda number: (ends, deletes)[number]())
    batch.refresh_from_db()
    assert batch.status == Status.COMPLETED
    assert not WebhookEndpoint.objects.exists() and not WebhookDelivery.objects.exists()


@pytest.mark.skipif(environment.DATABASE != "postgres", reason="SQLite has one lock for all")
def test_who_gives_up_or_forgets_waits_for_no_delete(
    owner: Person, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It locks rows in another order: if one waited for the other, both might."""
    monkeypatch.setattr(leasing, "LOG_KEPT", timedelta(0))
    endpoint(owner, receiver.url)
    for _ in range(4):
        end(owner)
    of_the_dead, ended, *others = WebhookDelivery.objects.order_by("pk").values_list("pk", flat=True)
    WebhookDelivery.objects.exclude(pk=ended).update(attempts=webhooks.MAX_ATTEMPTS)
    WebhookDelivery.objects.filter(pk=ended).update(state="delivered")
    pass_time()
    locked, passed = threading.Event(), threading.Event()

    def holds() -> bool:
        with transaction.atomic():
            list(WebhookDelivery.objects.select_for_update().filter(pk__in=(of_the_dead, ended)))
            locked.set()
            return passed.wait(5)

    def passes() -> bool:
        locked.wait(10)
        leasing.bury()
        assert list(WebhookDelivery.objects.filter(state="failed").values_list("pk", flat=True)) == others
        leasing.prune()
        passed.set()
        return set(WebhookDelivery.objects.values_list("pk", flat=True)) == {of_the_dead, ended}

    assert at_once(2, lambda number: (holds, passes)[number]()) == [True, True]
    leasing.bury()
    leasing.prune()
    assert not WebhookDelivery.objects.exists()


@pytest.mark.sqlite_only
def test_a_receiver_that_hangs_holds_up_nobody(owner: Person, outsider: Person, receiver: Receiver) -> None:
    """The owner's hang in their places, and many more of theirs wait: the outsider's go out meanwhile."""
    release = threading.Event()

    def hang(handler: Handler) -> None:
        if "slow" in handler.path:
            release.wait(20)
        handler.send_response(200)
        handler.end_headers()

    receiver.answers = [hang] * 99
    for n in range(5):
        endpoint(owner, f"{receiver.url}&slow={n}")
    endpoint(outsider, f"{receiver.url}&quick")
    for _ in range(3):
        end(owner)

    def watch() -> None:
        until(lambda: len(receiver.received) == leasing.OF_TENANT)
        for _ in range(5):
            end(outsider)
        until(lambda: sum("quick" in each.path for each in receiver.received) == 5)
        assert sum("slow" in each.path for each in receiver.received) == leasing.OF_TENANT
        release.set()

    at_once(2, lambda number: (deliver, watch)[number]())
    assert len(receiver.received) == 20


def test_one_task_sends_and_another_leaves_at_once(owner: Person, outsider: Person, receiver: Receiver) -> None:
    endpoint(owner, receiver.url)
    endpoint(outsider, receiver.url)
    end(owner)
    assert leasing.claim("somebody", ())
    end(outsider)
    deliver()
    assert not receiver.received
    pass_time()
    deliver()
    assert len(receiver.received) == 2


def test_a_task_hands_over_what_is_left(owner: Person, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint(owner, receiver.url)
    end(owner)
    OrmQ.objects.all().delete()
    monkeypatch.setattr(delivering, "CLAIMING", 0)
    deliver()
    assert OrmQ.objects.count() == 1 and not receiver.received


def test_the_queue_may_lose_its_tasks(owner: Person, receiver: Receiver) -> None:
    endpoint(owner, receiver.url)
    receiver.answers = [500]
    end(owner)
    OrmQ.objects.all().delete()
    for sent in (1, 2):
        sweeping.sweep()
        sweeping.sweep()
        (ring,) = [row.task for row in OrmQ.objects.all()]
        assert (ring["func"], ring["args"]) == ("batches.tasks.deliver", ())
        OrmQ.objects.all().delete()
        deliver()
        assert len(receiver.received) == sent
        sweeping.sweep()
        assert not OrmQ.objects.exists(), "nothing is due"
        pass_time()


def test_old_entries_go(owner: Person, receiver: Receiver) -> None:
    made = endpoint(owner, receiver.url)
    for _ in range(3):
        end(owner)
    deliver()
    old = timezone.now() - leasing.LOG_KEPT - timedelta(minutes=1)
    kept = deliveries(owner, made)[0]["id"]
    WebhookDelivery.objects.exclude(event_id=kept).update(created_at=old)
    sweeping.sweep()
    assert [each["id"] for each in deliveries(owner, made)] == [kept]


@pytest.mark.sqlite_only
def test_no_secret_in_a_log(owner: Person, receiver: Receiver, caplog: Any, monkeypatch: Any) -> None:
    caplog.set_level(0)
    made = endpoint(owner, receiver.url)
    receiver.answers = [500]
    end(owner)
    deliver()
    monkeypatch.setattr(sending.Sender, "_open", lambda *args: 1 / 0)
    pass_time()
    deliver()
    assert deliveries(owner, made)[0]["error"] == "sender_failed"
    assert "ZeroDivisionError" in caplog.text
    assert made["signing_secret"] not in caplog.text and made["signing_secret"][6:30] not in caplog.text
    pass_time()
    (claim,) = leasing.claim("t", ())
    assert "v1," not in repr(claim)
