"""Web hosts that go while requests are under way: told of it first, in flight finished, behind balancers unnoticed."""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import httpx
import pytest

from provocative.addresses import Address, answers
from tests.balancing import BALANCERS
from tests.conftest import until
from tests.hosts import Host
from tests.s3 import free_ports
from tests.service import Service

pytestmark = pytest.mark.sqlite_only  # no database changes how a web server ends

HEAD = (
    b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
)
TAIL = b"\r\n--x--\r\n"
MULTIPART = "multipart/form-data; boundary=x"


class Caller:
    """A client that retries nothing."""

    def __init__(self, url: str, key: str) -> None:
        self._port, self._headers = int(url.rpartition(":")[2]), {"Authorization": f"Bearer {key}", "Host": "localhost"}
        self.connection = HTTPConnection("127.0.0.1", self._port, timeout=60)

    def ask(self, path: str = "/v1/models") -> int:
        self.connection.request("GET", path, headers=self._headers)
        return self._status()

    def upload(self, between: Callable[[], object] = lambda: None, pieces: int = 3) -> int:
        """`between` is called before each piece but the first."""
        rest = [b"{}\n" * 1000] * pieces
        size = str(len(HEAD) + sum(map(len, rest)) + len(TAIL))

        def body() -> Iterator[bytes]:
            yield HEAD
            for piece in rest:
                between()
                yield piece
            yield TAIL

        headers = {**self._headers, "Content-Type": MULTIPART, "Content-Length": size}
        self.connection.request("POST", "/v1/files", body(), headers)
        return self._status()

    def _status(self) -> int:
        answer = self.connection.getresponse()
        answer.read()
        return answer.status


class Webs:
    """So many `web` hosts on one database."""

    def __init__(self, count: int, drain: int) -> None:
        self.service = Service(name="rolling")
        self.service.manage("migrate", "-v0")
        self.hosts = []
        for port in free_ports(count):
            command = ("web", "--bind", f"127.0.0.1:{port}", "--drain", str(drain))
            self.hosts.append(Host(*command, environ=self.service.environ, home=self.service.home))

    def start(self) -> str:
        """Their key."""
        for host in self.hosts:
            host.begin()
        for host in self.hosts:
            host.await_ready()
        limits = ("--plan", "dedicated", "--requests-per-minute", "1000000")
        self.service.manage("tenant", "create", "acme", "--plan", "dedicated")
        self.service.manage("tenant", "set", "acme", *limits)
        return str(self.service.manage("key", "create", "acme")["api_key"])

    def remove(self) -> None:
        for host in self.hosts:
            host.remove()
        self.service.remove()


@pytest.fixture
def web() -> Iterator[tuple[Host, str]]:
    webs = Webs(1, drain=1)
    try:
        key = webs.start()
        yield webs.hosts[0], key
    finally:
        webs.remove()


def test_a_web_that_goes_says_so_first_and_finishes_what_it_has(web: tuple[Host, str]) -> None:
    host, key = web
    gone, statuses = threading.Event(), []

    def upload() -> None:
        caller = Caller(host.ready, key)
        statuses.append(caller.upload(lambda: gone.wait(20), pieces=1))
        caller.connection.close()

    slow = threading.Thread(target=upload)
    slow.start()
    with httpx.Client(base_url=host.ready, trust_env=False, headers={"Authorization": f"Bearer {key}"}) as client:
        assert client.get("/readyz").json() == {"status": "ok"}
        assert host.process
        host.process.send_signal(signal.SIGTERM)
        until(lambda: client.get("/readyz").status_code == 503)
        assert client.get("/readyz").json() == {"status": "draining"}
        assert client.get("/v1/models").status_code == client.get("/healthz").status_code == 200
    until(lambda: not answers(Address("127.0.0.1", int(host.ready.rpartition(":")[2])), "/healthz"))
    assert host.process.poll() is None, "an upload is under way"
    gone.set()
    slow.join()
    assert statuses == [200]
    assert host.process.wait(20) == 0
    assert not list(host.home.glob(".leaving*"))


# --- the long form: make soak ------------------------------------------------------------------------------------------


class Calling(threading.Thread):
    """Somebody who calls again and again until they are told to stop; what failed."""

    def __init__(self, url: str, key: str, call: Callable[[Caller], int]) -> None:
        super().__init__()
        self._caller, self._call = Caller(url, key), call
        self.answered, self.stopped = 0, threading.Event()
        self.failed: list[str] = []

    def run(self) -> None:
        while not self.stopped.wait(0.05):
            try:
                status = self._call(self._caller)
                self.answered += 1
                if status != 200:
                    self.failed.append(str(status))
            except (OSError, HTTPException) as error:
                self.failed.append(repr(error))
                self._caller.connection.close()
        self._caller.connection.close()


def slowly(caller: Caller) -> int:
    return caller.upload(lambda: time.sleep(0.2), pieces=15)


@pytest.mark.soak
@pytest.mark.parametrize("name", BALANCERS)
def test_webs_are_rolled_behind_a_balancer_and_no_request_fails(name: str, tmp_path: Path) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is missing: `apt-get install {name}`")
    webs, (port,) = Webs(2, drain=3), free_ports(1)
    try:
        key = webs.start()
        ports = [int(host.ready.rpartition(":")[2]) for host in webs.hosts]
        with BALANCERS[name](tmp_path, port, ports):
            calls = [Caller.ask] * 4 + [Caller.upload] * 2 + [slowly] * 2
            callers = [Calling(f"http://127.0.0.1:{port}", key, call) for call in calls]
            for caller in callers:
                caller.start()
            for host in webs.hosts * 2:
                time.sleep(3)
                assert host.stop() == 0
                host.start()
            for caller in callers:
                caller.stopped.set()
            for caller in callers:
                caller.join()
    finally:
        webs.remove()
    kinds = [sum(caller.answered for caller in part) for part in (callers[:4], callers[4:6], callers[6:])]
    failed = [reason for caller in callers for reason in caller.failed]
    print(f"{name}: {kinds[0]} reads, {kinds[1]} uploads, {kinds[2]} slow uploads over four restarts; failed {failed}")
    assert failed == []
    assert min(kinds) > 5
