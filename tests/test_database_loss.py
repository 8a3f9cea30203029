"""A PostgreSQL that stops in the middle, drops its connections, or tells another time than its clients."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import httpx
import pytest
from django.db import connection
from django.utils import timezone

from batches import objects, orphans, sweeping, tasks
from batches.core.states import Status
from batches.engine import leases, runner
from batches.models import Batch, Result, Runner, Slice
from tenants import clock
from tests import crashes, environment
from tests.conftest import Person, step, until
from tests.postgres import Server
from tests.service import Service, running, upload
from tests.test_engine import ledgers_agree, submit
from tests.test_engine import numbered as lines
from tests.test_service import numbered, three_ledgers
from tests.witness import Witness

pytestmark = pytest.mark.skipif(environment.DATABASE != "postgres", reason="shows something of PostgreSQL's")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server(environment.HOME / "pg-own")
    yield server
    server.remove()


@pytest.fixture(scope="module")
def service(server: Server) -> Iterator[Service]:
    with running("--no-model", "--runners", "2", server=server.folder) as service:
        yield service


@pytest.fixture
def upstream(service: Service, request: pytest.FixtureRequest) -> Iterator[Witness]:
    with Witness(latency_ms=(50, 100)) as witness:
        service.manage("upstream", "add", request.node.originalname, witness.base_url, "--max-in-flight", "64")
        service.manage("price", "set", request.node.originalname, "--input", "1.00", "--output", "2.00")
        yield witness


def seen(client: httpx.Client, batch: str) -> dict[str, Any]:
    """The batch, or nothing while the database is away: then every answer is an error in JSON."""
    try:
        answer = client.get(f"/v1/batch/{batch}")
    except httpx.TransportError:
        return {}
    assert answer.status_code in (200, 500), answer.text
    assert answer.status_code == 200 or answer.json()["error"]["code"] == "server_error"
    return dict(answer.json()) if answer.status_code == 200 else {}


def at(client: httpx.Client, batch: str, count: int) -> None:
    until(lambda: seen(client, batch).get("completed_count", 0) >= count, 120)


def completed(client: httpx.Client, batch: str, seconds: float = 120) -> dict[str, Any]:
    until(lambda: seen(client, batch).get("status") == "completed", seconds)
    return seen(client, batch)


def try_uploads(client: httpx.Client, model: str, seconds: float) -> list[str]:
    """Submit for so long; the ids of those that were acknowledged."""
    acknowledged, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            acknowledged.append(upload(client, numbered(model, 1))["id"])
        except (AssertionError, httpx.TransportError):
            time.sleep(0.05)
    return acknowledged


@pytest.mark.soak
@pytest.mark.parametrize(("stops", "count"), [(5, 20_000)])
def test_stopped_in_the_middle(stops: int, count: int, service: Service, server: Server, upstream: Witness) -> None:
    client = service.tenant(f"stopped-{stops}", "--batch-limit", "1000")
    model = "test_stopped_in_the_middle"
    batch = upload(client, numbered(model, count))
    acknowledged, waits = [], []
    for number in range(stops):
        at(client, batch["id"], (number + 1) * count // (stops + 2))
        server.stop()
        acknowledged += try_uploads(client, "no-such-model", 1.0) if stops > 1 else []
        assert not acknowledged, "nothing can be acknowledged while nothing can be stored"
        server.start()
        started, sent = time.monotonic(), upstream.stats()["requests"]
        upstream.until(lambda stats, sent=sent: stats["requests"] > min(sent, count - 1), 60)  # type: ignore[misc]
        waits.append(round(time.monotonic() - started, 1))
    done = completed(client, batch["id"])
    print(f"seconds from the start to the next send {waits}, to the end {time.monotonic() - started:.1f}")
    again = three_ledgers(service, client, done, upstream)
    print(f"{stops} stops in {count} lines: lost 0, sent again {again}")
    assert again <= stops * (64 + 256 + 64)


@pytest.mark.soak
@pytest.mark.parametrize(("seconds", "count"), [(30.0, 20000)])
def test_connections_dropped(seconds: float, count: int, service: Service, server: Server, upstream: Witness) -> None:
    client = service.tenant(f"dropped-{count}", "--batch-limit", "1000")
    model = "test_connections_dropped"
    batch = upload(client, numbered(model, count))
    at(client, batch["id"], 1)
    dropped, acknowledged, end = 0, [], time.monotonic() + seconds
    while time.monotonic() < end:
        dropped += server.drop_connections()
        acknowledged += try_uploads(client, "no-such-model", 0.3)
    again = three_ledgers(service, client, completed(client, batch["id"]), upstream)
    until(lambda: {seen(client, each).get("status") for each in acknowledged} <= {"failed"}, 60)
    print(f"{dropped} connections dropped: {len(acknowledged)} uploads acknowledged, lost 0, sent again {again}")
    assert again <= 64 + 256 + 64


# --- clocks -----------------------------------------------------------------------------------------------------------


def at_another_time(hours: float, work: Callable[[], object]) -> Callable[[], object]:
    """`work` in a process whose clock is wrong."""
    shift = timedelta(hours=hours)

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Wrong":
            return super().now(tz) + shift

    def wrong() -> None:
        import batches.engine.pump

        right = time.time
        time.time = lambda: right() + shift.total_seconds()
        timezone.now = lambda: datetime.now(UTC) + shift
        setattr(batches.engine.pump, "datetime", Wrong)  # noqa: B010 - not one of its exports
        work()

    return wrong


@pytest.mark.parametrize("hours", [26, -26])
def test_a_worker_whose_clock_is_wrong(hours: float, owner: Person, witness: Witness) -> None:
    """It sweeps and validates, and shares a batch with a runner whose clock is right."""
    witness.configure(latency_ms=[10, 20])
    first = owner.submit(lines(600)).json()["id"]
    assert crashes.end(crashes.fork(at_another_time(hours, lambda: step("validating", tasks.validate)))) == 0
    batch = Batch.objects.get(public_id=first)

    def sweep() -> None:
        while Result.objects.count() < 600:
            sweeping.sweep()
            time.sleep(0.01)

    def run() -> None:
        runner.run(stop=lambda: Result.objects.count() == 600, idle=60)

    pids = [crashes.fork(at_another_time(hours, work)) for work in (run, sweep)] + [crashes.fork(run)]
    until(lambda: Runner.objects.count() == 2)
    furthest = timedelta(0)
    while Result.objects.count() < 600:
        ends = [end for rows in (Runner, Slice) for end in rows.objects.values_list("lease_until", flat=True) if end]
        furthest = max([furthest, *(abs(end - clock.now()) for end in ends)])
        time.sleep(0.02)
    assert [crashes.end(pid) for pid in pids] == [0, 0, 0]
    assert crashes.end(crashes.fork(at_another_time(hours, lambda: step("finalizing", tasks.finalize)))) == 0
    ledgers_agree(owner, batch)
    assert (batch.status, batch.completed, batch.wasted) == (Status.COMPLETED, 600, 0)
    assert set(witness.requests_by_marker().values()) == {1}, "no lease ended before its time"
    print(f"{hours:+} h: wrong expiries 0; leases end within {furthest.total_seconds():.0f} s of the database's clock")
    assert furthest <= leases.LEASE


def test_the_queue_goes_on_when_a_worker_rings_from_another_time(owner: Person, witness: Witness) -> None:
    """django-q2's rows carry the clock of whoever wrote them: one of tomorrow would wait until then."""
    owner.submit(lines(5))
    assert crashes.end(crashes.fork(at_another_time(26, lambda: step("validating", tasks.validate)))) == 0
    sweeping.sweep()
    from django_q.models import OrmQ

    assert OrmQ.objects.filter(key="runners", lock__lte=timezone.now()).exists()


def test_a_day_is_a_day_by_the_databases_clock(owner: Person, witness: Witness) -> None:
    batch = submit(owner, lines(5))
    for hours in (26, -26):
        assert crashes.end(crashes.fork(at_another_time(hours, sweeping.sweep))) == 0
        batch.refresh_from_db()
        assert batch.status == Status.IN_PROGRESS


def test_an_upload_on_its_way_is_no_orphan_of_tomorrow(owner: Person) -> None:
    """Stored, and not yet named by a row: the sweep of orphans by a wrong clock must leave it."""
    with objects.Writer(objects.fresh_key("inputs")) as writer:
        writer.write(b"on its way")
    assert crashes.end(crashes.fork(at_another_time(26, orphans.remove))) == 0
    assert objects.read(writer.key, 0, 10) == b"on its way"


def test_a_lost_connection_is_no_failed_validation(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of them fail a batch for good: what is counted must be the file's own."""

    def lose(*_: Any) -> None:
        connection.connection.close()
        Batch.objects.count()

    batch = owner.submit(lines(5)).json()["id"]
    monkeypatch.setattr("batches.validation._validate", lose)
    step("validating", tasks.validate)
    row = Batch.objects.get(public_id=batch)
    assert (row.status, row.step_token, row.step_attempts) == (Status.VALIDATING, "", 0)
