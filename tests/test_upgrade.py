"""Two releases at work on one batch: the one before this code, and this code, on one PostgreSQL that is migrated meanwhile."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import environment
from tests.conftest import until
from tests.hosts import Host
from tests.service import ROOT, Service, ended, upload
from tests.test_service import count, numbered, three_ledgers
from tests.witness import Witness

PREVIOUS = (Path(__file__).parent / "data" / "previous_release").read_text().split()[0]
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(environment.DATABASE != "postgres", reason="SQLite is upgraded while nothing runs"),
]
LINES = 20_000  # a runner takes 8,192 in hand: the new one has to find some
SLOWLY, FAST = 16, 128  # requests in flight while both are to be seen at work, and then


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """The source of the release before, unpacked; it runs with the packages of this one."""
    git, tar = (shutil.which(name) or name for name in ("git", "tar"))
    archive = subprocess.run([git, "archive", PREVIOUS], cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip(f"the history has no {PREVIOUS}: `git fetch --unshallow`")
    folder = tmp_path / "previous"
    folder.mkdir()
    subprocess.run([tar, "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


class Asking(threading.Thread):
    """Somebody who looks at the batch all the time, through one web host; what was answered."""

    def __init__(self, url: str, key: httpx.Headers, batch: str) -> None:
        super().__init__()
        self._client = httpx.Client(base_url=url, headers=key, trust_env=False, timeout=30)
        self._batch, self.over = batch, threading.Event()
        self.statuses: Counter[int] = Counter()

    def run(self) -> None:
        with self._client as client:
            while not self.over.wait(0.1):
                for path in (f"/v1/batch/{self._batch}", "/v1/usage", "/readyz"):
                    self.statuses[client.get(path).status_code] += 1

    def end(self) -> Counter[int]:
        self.over.set()
        self.join()
        return self.statuses


class Releases:
    """One service, of which both releases have hosts."""

    def __init__(self, previous: Path) -> None:
        self.service, self.previous = Service(name="upgrade"), previous
        self.hosts: list[Host] = []
        self.migrate(previous)

    def migrate(self, source: Path) -> None:
        command = [sys.executable, "manage.py", "migrate", "-v0"]
        subprocess.run(command, cwd=source, env=self.service.environ, check=True)

    def host(self, *command: str, source: Path = ROOT) -> Host:
        host = Host(*command, environ=self.service.environ, root=source, home=self.service.home)
        self.hosts.append(host)
        return host.start()

    def up(self, source: Path) -> Host:
        return self.host("up", "--bind", "127.0.0.1:0", "--no-model", "--runners", "1", source=source)

    def remove(self) -> None:
        for host in self.hosts:
            host.remove()
        self.service.remove()


@pytest.fixture
def releases(previous: Path) -> Iterator[Releases]:
    found = Releases(previous)
    yield found
    found.remove()


def sent(witness: Witness) -> int:
    return int(sum(witness.requests_by_marker().values()))


def hurry(service: Service) -> None:
    ((upstream,),) = service.sql("SELECT id FROM batches_upstream")
    service.manage("upstream", "set", str(upstream), "--max-in-flight", str(FAST))


def submit(releases: Releases, client: httpx.Client, model: str, witness: Witness) -> dict[str, Any]:
    releases.service.manage("upstream", "add", model, witness.base_url, "--max-in-flight", str(SLOWLY))
    releases.service.manage("price", "set", model, "--input", "1.00", "--output", "2.00")
    return upload(client, numbered(model, LINES))


def test_both_releases_work_on_one_batch_which_ends_on_the_new_one(releases: Releases) -> None:
    service = releases.service
    with Witness(latency_ms=(100, 150)) as witness:
        old = releases.up(releases.previous)
        service.url = old.ready
        client = service.tenant()
        batch = submit(releases, client, "both", witness)
        until(lambda: count(client, batch) >= 300, 60)
        through_old = Asking(old.ready, client.headers, batch["id"])
        through_old.start()

        begun = time.monotonic()
        releases.migrate(ROOT)
        migrated = time.monotonic() - begun
        web = releases.host("web", "--bind", "127.0.0.1:0")
        through_new = Asking(web.ready, client.headers, batch["id"])
        through_new.start()
        releases.host("worker", "--runners", "1")
        hosts = "SELECT count(DISTINCT host) FROM batches_runner WHERE lease_until > now()"
        until(lambda: service.sql(hosts) == [(2,)], 60)
        before = sent(witness)
        until(lambda: sent(witness) > before + 500, 60)
        statuses = {"old": through_old.end()}
        assert count(client, batch) < LINES, "it ended before the old release: the test shows nothing"
        assert old.stop(signal.SIGTERM) == 0
        hurry(service)
        client.base_url = httpx.URL(web.ready)
        done = ended(client, batch["id"], seconds=180)
        statuses["new"] = through_new.end()
        assert (done["status"], done["completed_count"]) == ("completed", LINES)
        assert three_ledgers(service, client, done, witness) == 0
    print(f"migrated in {migrated:.1f} s; answers {statuses}; sent again 0")
    assert all(set(found) == {200} for found in statuses.values()), statuses


def test_the_release_before_works_on_the_migrated_database(releases: Releases) -> None:
    """The way back, in the middle of a batch: nothing is migrated backwards."""
    service = releases.service
    releases.migrate(ROOT)
    with Witness(latency_ms=(100, 150)) as witness:
        new = releases.up(ROOT)
        service.url = new.ready
        client = service.tenant()
        batch = submit(releases, client, "back", witness)
        until(lambda: count(client, batch) >= 300, 60)
        assert new.stop() == 0
        old = releases.up(releases.previous)
        client.base_url = httpx.URL(old.ready)
        assert client.get("/readyz").status_code == 200
        assert count(client, batch) < LINES
        hurry(service)
        done = ended(client, batch["id"], seconds=180)
        assert three_ledgers(service, client, done, witness) == 0
        another = upload(client, numbered("back", 20))
        assert ended(client, another["id"])["completed_count"] == 20
