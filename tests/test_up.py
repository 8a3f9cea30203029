"""What `up` stands on: the embedded model's registration, the address it listens on, the health of its queues."""

import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone
from django_q.models import OrmQ
from psycopg_pool.base import AttemptWithBackoff

from batches.engine import leases
from batches.models import Batch, File, Runner, Upstream
from billing.models import Price
from provocative import addresses, embedded
from provocative.addresses import Address, BadAddress
from provocative.databases import database
from provocative.queue_health import ChoresMove, RunnersTakeWork
from tenants.models import Tenant
from tests.service import ROOT

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]  # what is shown is the same on any database


def refusal(*arguments: str) -> str:
    with pytest.raises(CommandError) as refused:
        call_command(*arguments)
    return str(refused.value)


# --- the embedded model ----------------------------------------------------------------------------------------------


def test_the_embedded_model_is_registered_once_and_keeps_the_price_it_has() -> None:
    embedded.register("http://127.0.0.1:5001/v1")
    embedded.register("http://127.0.0.1:5002/v1")
    row, price = Upstream.objects.get(), Price.objects.get()
    assert (row.model, row.base_url, row.embedded, row.enabled) == (
        embedded.MODEL,
        "http://127.0.0.1:5002/v1",
        True,
        True,
    )
    assert (price.input, price.output) == (100_000, 400_000)


def test_the_embedded_model_is_retired_by_the_one_who_serves_it() -> None:
    embedded.register("http://127.0.0.1:5001/v1")
    embedded.retire("http://127.0.0.1:5000/v1")
    assert Upstream.objects.get().enabled
    embedded.retire("http://127.0.0.1:5001/v1")
    assert not Upstream.objects.get().enabled


def test_a_missing_model_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    assert "make setup" in refusal("model", "--port", "1")


# --- where `up` listens ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bind", "host", "port", "url"),
    [
        ("127.0.0.1:8000", "127.0.0.1", 8000, "http://127.0.0.1:8000"),
        (":8000", "0.0.0.0", 8000, "http://127.0.0.1:8000"),
        ("8000", "127.0.0.1", 8000, "http://127.0.0.1:8000"),
        ("0.0.0.0:80", "0.0.0.0", 80, "http://127.0.0.1:80"),
        ("[::1]:8000", "::1", 8000, "http://[::1]:8000"),
        ("[::]:8000", "::", 8000, "http://[::1]:8000"),
        ("localhost:0", "localhost", 0, "http://localhost:0"),
    ],
)
def test_an_address_is_read(bind: str, host: str, port: int, url: str) -> None:
    address = addresses.parse(bind)
    assert (address, address.url) == (Address(host, port), url)


@pytest.mark.parametrize("bind", ["", "host", "host:", "host:x", "host:-1", "host:65536", "::1:8000", "[::1]", "h:٣"])
def test_what_is_no_address_is_refused_with_a_cure(bind: str) -> None:
    with pytest.raises(BadAddress, match="such as"):
        addresses.parse(bind)


def test_port_0_becomes_a_real_one_and_a_taken_one_is_refused() -> None:
    free = addresses.claim(Address("127.0.0.1", 0))
    assert free.port > 0
    with socket.create_server((free.host, free.port)):
        assert "in use" in refusal("up", "--bind", f"127.0.0.1:{free.port}")
        assert not addresses.answers(Address("127.0.0.1", 1), "/healthz")


@pytest.mark.parametrize("count", ["0", "-1", "two"])
def test_up_needs_a_runner(count: str) -> None:
    assert "from 1 up" in refusal("up", f"--runners={count}")


def test_a_running_web_server_is_seen_to_answer(web_server: str) -> None:
    address = Address("127.0.0.1", int(web_server.rpartition(":")[2]))
    assert addresses.answers(address, "/healthz")
    assert not addresses.answers(address, "/nothing")


# --- whether clusters take their work --------------------------------------------------------------------------------


def row(cluster: str, seconds_ago: float) -> OrmQ:
    return OrmQ.objects.create(key=cluster, payload="", lock=timezone.now() - timedelta(seconds=seconds_ago))


def test_chores_move_as_long_as_the_front_of_the_queue_changes() -> None:
    moves = ChoresMove()
    assert moves()
    first = row("chores", 60)
    row("runners", 90)
    row("chores", -60)  # taken by a worker: it comes back in a minute
    assert moves()
    assert not moves()
    first.delete()
    row("chores", 50)
    assert moves()
    assert not moves()


def test_chores_are_not_stuck_while_a_batch_is_at_a_step() -> None:
    tenant = Tenant.objects.create(name="acme")
    now = timezone.now()
    file = File.objects.create(
        tenant=tenant, purpose="batch", filename="f", bytes=1, lines=1, sha256="", storage_key="k", created_at=now
    )
    batch = Batch.objects.create(
        tenant=tenant, input_file=file, endpoint="/v1/chat/completions", created_at=now, deadline=now, total=1
    )
    moves = ChoresMove()
    row("chores", 60)
    moves()
    assert not moves()
    Batch.objects.filter(pk=batch.pk).update(step_until=timezone.now() + timedelta(seconds=30))
    assert moves()


def test_runners_are_stuck_when_a_call_waits_and_not_all_of_them_are_at_work(settings: Any) -> None:
    settings.RUNNERS = 2
    take_work = RunnersTakeWork("here")
    assert take_work()
    row("runners", 1)
    assert take_work()
    row("runners", 20)
    assert not take_work()
    for pid, host in enumerate(("here", "elsewhere", "here")):
        assert not take_work()
        now = timezone.now()
        Runner.objects.create(
            token=str(pid), host=host, pid=pid, started_ticks=1, created_at=now, lease_until=now + leases.LEASE
        )
    assert take_work()


# --- the web server's database ---------------------------------------------------------------------------------------


def test_a_web_server_is_back_soon_after_its_database(tmp_path: Path) -> None:
    """However long that was away: psycopg's pool tries after ever longer pauses, by itself for five minutes."""
    pool = database("postgres://batch@db.example.com/prov", tmp_path, "web")["OPTIONS"]["pool"]
    attempt, now, longest = AttemptWithBackoff(timeout=pool["reconnect_timeout"]), 0.0, 0.0
    while not attempt.time_to_give_up(now):
        attempt.update_delay(now)
        now, longest = now + attempt.delay, max(longest, attempt.delay)
    assert longest < 5


def test_the_server_of_metrics_is_not_started_by_hand() -> None:
    assert "starts this" in refusal("metrics", "--bind", "nowhere")


def test_a_cluster_without_a_worker_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "manage.py", "check"], env={**os.environ, "PROVOCATIVE_CHORES": "0"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "PROVOCATIVE_CHORES='0' is not from 1 up" in done.stderr and "ZeroDivisionError" not in done.stderr
