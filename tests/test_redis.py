"""REDIS_URL: the bell rings in a real Redis, attempts are counted there, and nothing is lost while it is away."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import caches
from django.db import transaction
from django_q.models import OrmQ
from redis import ConnectionError as RedisAway
from redis import Redis

from batches import tasks
from provocative import bells, queue_health
from tests.conftest import Person, until
from tests.redises import Server
from tests.service import Service, ended, running, upload
from tests.test_service import numbered, three_ledgers
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def rung(server: Server, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    """The product rings there."""
    settings.REDIS_URL = server.url
    monkeypatch.setattr("django_q.conf.Conf.BROKER_CLASS", "provocative.bells.Bells")
    bells.client.cache_clear()
    bells.client().flushall()
    yield bells.client()
    bells.client().close()
    bells.client.cache_clear()


@pytest.mark.django_db(transaction=True)
def test_a_ring_is_heard_when_its_transaction_ends_well(rung: Redis) -> None:
    with transaction.atomic():
        tasks.ring_validate(1)
        assert bells.waiting("chores") is None
    with transaction.atomic():
        tasks.ring_validate(2)
        transaction.set_rollback(True)
    found = bells.waiting("chores")
    assert found and found[0] == 1 and timedelta() <= found[2] < timedelta(seconds=30)
    assert tasks.chores_waiting() and not OrmQ.objects.exists()
    (ring,) = bells.Bells("chores").dequeue() or []
    assert "batches.tasks.validate" in str(django_q_reads(ring[1]))
    assert bells.waiting("chores") is None and not tasks.chores_waiting()


def django_q_reads(pack: str) -> Any:
    from django_q.signing import SignedPackage

    return SignedPackage.loads(pack)


@pytest.mark.django_db(transaction=True)
def test_runners_are_rung_for_once(rung: Redis, settings: Any) -> None:
    settings.RUNNERS = 3
    for _ in range(5):
        tasks.ring_work()
    assert [(line.cluster, line.rows) for line in queue_health.figures().lines] == [("runners", 3)]
    first = queue_health.oldest_runnable("runners")
    bells.Bells("runners").dequeue()
    assert first and (second := queue_health.oldest_runnable("runners")) and second[0] != first[0]


@pytest.mark.django_db(transaction=True)
def test_no_request_fails_while_redis_is_away(rung: Redis, settings: Any, owner: Person) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    bells.client.cache_clear()
    assert owner.submit([request_line("1")]).status_code == 200
    assert queue_health.figures().lines == []
    with pytest.raises(RedisAway):  # the supervisor takes what it can't know for health
        queue_health.oldest_runnable("runners")


def test_attempts_are_counted_by_all_and_never_unpickled(server: Server, settings: Any) -> None:
    settings.CACHES = {
        name: {
            "BACKEND": "provocative.counts.SharedCounts",
            "LOCATION": url,
            "KEY_PREFIX": "provocative",
            "OPTIONS": {"MAX_ENTRIES": 100},
        }
        for name, url in (("default", server.url), ("other", server.url), ("away", "unix:///nowhere/redis.sock"))
    }
    here, there, away = (caches[name] for name in ("default", "other", "away"))
    here.set("attempts", [1.5, 2.5], 60)
    assert there.get("attempts") == [1.5, 2.5]
    assert here.add("lock", True, 60) and not there.add("lock", True, 60) and there.delete("lock")
    with Redis.from_url(server.url) as raw:
        assert raw.get("provocative:1:attempts") == b"[1.5, 2.5]"
    assert away.add("lock", True, 60) and not away.add("lock", True, 60), "a limit does not fall with Redis"
    away.set("attempts", [1.5], 60)
    assert away.get("attempts") == [1.5] and away.delete("lock")


@pytest.fixture
def service(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("REDIS_URL", server.url)
    with running("--no-model", "--runners", "1") as service:
        yield service


@pytest.mark.soak
def test_a_batch_outlives_the_redis_that_rang_for_it(service: Service, server: Server) -> None:
    client = service.tenant()
    with Witness(latency_ms=(20, 30)) as witness:
        service.manage("upstream", "add", "m", witness.base_url, "--max-in-flight", "32")
        service.manage("price", "set", "m", "--input", "1.00", "--output", "2.00")
        batch = upload(client, numbered("m", 1200))
        until(lambda: client.get(f"/v1/batch/{batch['id']}").json()["completed_count"] > 100)
        assert service.sql("SELECT count(*) FROM django_q_ormq") == [(0,)]
        server.kill()
        unheard = upload(client, numbered("unserved", 2))["id"]
        assert client.get("/readyz").status_code == 200
        server.start()
        assert ended(client, batch["id"])["completed_count"] == 1200
        assert ended(client, unheard)["status"] == "failed", "the sweep rang for it: no upstream has such a model"
        assert three_ledgers(service, client, batch, witness) == 0
