"""The service as it is run: killed, stopped, restarted; three ledgers must agree."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

import httpx
import pytest

from tests.conftest import until
from tests.service import Service, ended, output, running, upload
from tests.witness import Witness, request_line


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running("--no-model", "--runners", "2") as service:
        yield service


@pytest.fixture
def upstream(service: Service, request: pytest.FixtureRequest) -> Iterator[Witness]:
    """A witness of the test's own, serving a model of the test's name."""
    with Witness() as witness:
        service.manage("upstream", "add", request.node.name, witness.base_url, "--max-in-flight", "64")
        service.manage("price", "set", request.node.name, "--input", "1.00", "--output", "2.00")
        yield witness


def numbered(model: str, count: int) -> list[dict[str, Any]]:
    return [request_line(str(n), custom_id=f"line:{n}", model=model) for n in range(count)]


class Books(Protocol):
    """Whatever can be asked for rows."""

    def sql(self, query: str) -> list[tuple[Any, ...]]: ...


def three_ledgers(service: Books, client: httpx.Client, batch: dict[str, Any], witness: Witness) -> int:
    """Upstream's log, output and charges agree; returns how many lines were sent more than once."""
    total = batch["total_requests"]
    lines = output(client, batch["id"])
    assert [line["custom_id"] for line in lines] == [f"line:{n}" for n in range(total)]
    assert all(line["response"]["body"]["choices"] for line in lines)
    sent = witness.requests_by_marker()
    assert set(sent) == {f"line:{n}" for n in range(total)}
    usages = [line["response"]["body"]["usage"] for line in lines]
    pico = sum(u["prompt_tokens"] * 500_000 + u["completion_tokens"] * 1_000_000 for u in usages)
    charged = service.sql(f"SELECT amount FROM billing_ledgerentry WHERE reference = '{batch['id']}'")
    assert [int(amount) for (amount,) in charged] == [pico]
    return int(sum(sent.values())) - int(total)


@pytest.mark.postgres_first
def test_kill_every_worker_three_times(service: Service, upstream: Witness, request: pytest.FixtureRequest) -> None:
    upstream.configure(latency_ms=[20, 30])
    client = service.tenant("killed")
    batch = upload(client, numbered(request.node.name, 1500))
    kills: list[int] = []

    def kill(found: Any) -> None:
        if len(kills) < 3 and found["completed_count"] >= 400 * (len(kills) + 1):
            kills.extend(filter(None, [service.kill_all("qcluster")]))  # none: they are between two lives

    done = ended(client, batch["id"], each=kill)
    assert (done["status"], done["completed_count"], done["failed_count"]) == ("completed", 1500, 0)
    assert len(kills) == 3
    again = three_ledgers(service, client, done, upstream)
    print(f"killed {kills} processes in three kills; {again} lines sent again")
    assert again <= 3 * (64 + 2 * 256)  # in flight, and a flush window of each runner


@pytest.mark.sqlite_only
def test_kill_only_idle_workers(service: Service, upstream: Witness, request: pytest.FixtureRequest) -> None:
    """An idle django-q2 worker that is killed leaves the queue's lock held: the cluster looks healthy and is dead."""
    client = service.tenant("idle")
    mains = {pid for pid in service.processes("qcluster") if os.getsid(pid) == pid}
    for pid in set(service.processes("qcluster")) - mains:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    batch = upload(client, numbered(request.node.name, 10))
    assert ended(client, batch["id"])["status"] == "completed"
    assert three_ledgers(service, client, batch, upstream) == 0


@pytest.mark.soak
@pytest.mark.sqlite_only
def test_sigterm_of_both_clusters_sends_nothing_twice(upstream: Witness, service: Service, request: Any) -> None:
    """As a deployment that replaces workers would: `up` starts new ones."""
    upstream.configure(latency_ms=[20, 30])
    client = service.tenant("replaced")
    batch = upload(client, numbered(request.node.name, 2000))
    until(lambda: client.get(f"/v1/batch/{batch['id']}").json()["completed_count"] >= 300)
    mains = {pid for pid in service.processes("qcluster") if os.getsid(pid) == pid}
    for pid in mains:
        os.kill(pid, signal.SIGTERM)
    done = ended(client, batch["id"])
    assert (len(mains), done["status"]) == (2, "completed")
    assert not mains & set(service.processes("qcluster")), "they had ended"
    assert three_ledgers(service, client, batch, upstream) == 0


@pytest.mark.sqlite_only
def test_sigterm_of_up_sends_nothing_twice(upstream: Witness, service: Service, request: Any) -> None:
    upstream.configure(latency_ms=[20, 30])
    client = service.tenant("stopped")
    batch = upload(client, numbered(request.node.name, 3000))
    until(lambda: client.get(f"/v1/batch/{batch['id']}").json()["completed_count"] >= 500)
    assert service.stop() == 0
    assert service.processes("manage.py") == []
    done = service.sql(f"SELECT completed, total FROM batches_batch WHERE public_id = '{batch['id']}'")
    assert done[0][0] < done[0][1], "it ended before the stop: the test shows nothing"
    service.start()
    client.base_url = httpx.URL(service.url)
    assert ended(client, batch["id"])["status"] == "completed"
    assert three_ledgers(service, client, batch, upstream) == 0


@pytest.mark.sqlite_only
def test_up_itself_is_killed(upstream: Witness, service: Service, request: Any) -> None:
    upstream.configure(latency_ms=[20, 30])
    client = service.tenant("dead")
    batch = upload(client, numbered(request.node.name, 1500))
    until(lambda: client.get(f"/v1/batch/{batch['id']}").json()["completed_count"] >= 300)
    service.stop(signal.SIGKILL)
    until(lambda: not service.processes("manage.py") and not service.processes("granian"))
    service.start()
    client.base_url = httpx.URL(service.url)
    assert ended(client, batch["id"])["status"] == "completed"
    assert (
        three_ledgers(service, client, batch, upstream) <= 64 + 2 * 256
    )  # in flight, and a flush window of each runner
    assert Counter(upstream.requests_by_marker().values())[1] > 1000


def test_a_result_is_visible_soon(service: Service, upstream: Witness, request: pytest.FixtureRequest) -> None:
    client = service.tenant("soon")
    batch = upload(client, numbered(request.node.name, 3))
    done = ended(client, batch["id"])
    assert done["status"] == "completed"
    print("created to completed:", done["completed_at"] - done["created_at"], "s")


# --- the long forms: make soak -----------------------------------------------------------------------------------------


@pytest.mark.soak
def test_kill_at_twenty_random_moments(service: Service, upstream: Witness, request: pytest.FixtureRequest) -> None:
    """One worker, or all of them, with kill -9."""
    upstream.configure(latency_ms=[50, 100])
    client = service.tenant("twenty")
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    batch = upload(client, numbered(request.node.name, 5000))
    moments = sorted(dice.sample(range(50, 4800), 20))
    done, workers = 0, 0
    for moment in moments:
        until(lambda moment=moment: count(client, batch) >= moment, 60)  # type: ignore[misc]
        pids = until(lambda: service.processes("qcluster"))
        workers += service.kill_all("qcluster") if dice.random() < 0.3 else kill_one(dice.choice(pids))
        done += 1
    ending = ended(client, batch["id"], seconds=300)
    assert (ending["status"], ending["completed_count"], ending["failed_count"]) == ("completed", 5000, 0)
    again = three_ledgers(service, client, ending, upstream)
    print(f"seed {seed}: {done} kills of {workers} processes, lost 0, charged twice 0, sent again {again}")
    assert again <= 20 * (64 + 2 * 256)


def count(client: httpx.Client, batch: dict[str, Any]) -> int:
    return int(client.get(f"/v1/batch/{batch['id']}").json()["completed_count"])


def kill_one(pid: int) -> int:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


@pytest.mark.soak
def test_the_queue_loses_every_task(service: Service, upstream: Witness, request: pytest.FixtureRequest) -> None:
    """At each step of a batch all that is in the queue is lost, for three seconds."""
    client = service.tenant("lost")
    lost, healed = 0, {}
    begun = time.monotonic()
    batch = upload(client, numbered(request.node.name, 200))
    for step, reached in {"validate": "in_progress", "finalize": "completed"}.items():
        end = time.monotonic() + 3
        while time.monotonic() < end:
            lost += service.lose_tasks()
        begun = time.monotonic()
        until(lambda reached=reached: shown(client, batch) in (reached, "completed"), 60)  # type: ignore[misc]
        healed[step] = round(time.monotonic() - begun, 1)
    assert three_ledgers(service, client, ended(client, batch["id"]), upstream) == 0
    print(f"{lost} tasks lost; seconds until it went on: {healed}")


def shown(client: httpx.Client, batch: dict[str, Any]) -> str:
    return str(client.get(f"/v1/batch/{batch['id']}").json()["status"])


@pytest.mark.soak
def test_all_workers_are_killed_at_once() -> None:
    """A service of its own: each death within 30 s doubles the pause before the next start."""
    with Witness(latency_ms=(50, 100)) as upstream, running("--no-model", "--runners", "2") as service:
        service.manage("upstream", "add", "restarted", upstream.base_url, "--max-in-flight", "64")
        service.manage("price", "set", "restarted", "--input", "1.00", "--output", "2.00")
        client = service.tenant("restarted")
        batch = upload(client, numbered("restarted", 3000))
        waits = []
        for moment in (500, 1200, 1900):
            until(lambda moment=moment: count(client, batch) >= moment, 60)  # type: ignore[misc]
            service.kill_all("qcluster")
            sent = upstream.stats()["requests"]
            killed = time.monotonic()
            upstream.until(lambda stats, sent=sent: stats["requests"] > sent, 60)  # type: ignore[misc]
            waits.append(round(time.monotonic() - killed, 1))
        again = three_ledgers(service, client, ended(client, batch["id"]), upstream)
    print(f"seconds to the next send after each kill: {waits}; sent again {again}")
    assert again <= 3 * (64 + 2 * 256)
