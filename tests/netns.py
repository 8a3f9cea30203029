"""A small network of hosts on this machine: namespaces for network, processes and name, and a bridge between them.

The host that holds database, storage and upstream is this one, at GATEWAY. Needs root, iproute2 and util-linux.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import until
from tests.hosts import Host

GATEWAY, NETWORK = "10.77.0.1", "10.77.0.0/24"
BRIDGE = "pbbr0"


def possible() -> bool:
    """Whether this machine lets us."""
    if os.geteuid() or not all(map(shutil.which, ("ip", "unshare"))):
        return False
    made = ip("netns", "add", "pb-probe", check=False) == 0
    ip("netns", "del", "pb-probe", check=False)
    return made


def ip(*arguments: str, check: bool = True) -> int:
    """Its exit code, which is 0 where it is checked."""
    return subprocess.run([shutil.which("ip") or "ip", *arguments], check=check, capture_output=True).returncode


@contextmanager
def network() -> Iterator[None]:
    """The bridge, and nothing left of an earlier one."""
    ip("link", "del", BRIDGE, check=False)
    ip("link", "add", BRIDGE, "type", "bridge")
    ip("addr", "add", f"{GATEWAY}/24", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "up")
    try:
        yield
    finally:
        ip("link", "del", BRIDGE, check=False)


class Machine:
    """A host with a network of its own, on which one command runs as the first process."""

    def __init__(self, name: str, number: int, hostname: str = "") -> None:
        self.name, self.address, self._link = f"pb-{name}", f"10.77.0.{number}", f"pbv{number}"
        self._hostname = hostname or name
        self.host: Host | None = None

    def __enter__(self) -> "Machine":
        ip("netns", "del", self.name, check=False)
        ip("netns", "add", self.name)
        ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("link", "set", self._link, "master", BRIDGE, "up")
        for each in (("addr", "add", f"{self.address}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
            ip("-n", self.name, *each)
        ip("-n", self.name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        if self.host:
            self.power_off()
            self.host.remove()
        ip("netns", "del", self.name, check=False)
        ip("link", "del", self._link, check=False)

    def run(self, *command: str, environ: dict[str, Any]) -> Host:
        """Start `manage.py COMMAND` here, in the home that it had before; not waited for."""
        inside = [
            "ip", "netns", "exec", self.name, "unshare", "--uts", "--pid", "--fork", "--mount-proc",
            "sh", "-c", f"hostname {self._hostname}; exec \"$@\"", "sh",
        ]  # fmt: skip
        home = self.host.home if self.host else None
        if self.host:
            self.host.remove()
        self.host = Host(*command, environ=environ, inside=inside, home=home)
        self.host.begin()
        return self.host

    def first_process(self) -> int | None:
        """The pid, as this machine sees it, of the process that is 1 over there."""
        assert self.host
        assert self.host.process
        pid = self.host.process.pid  # of `unshare`, which `ip netns exec` became
        children = Path(f"/proc/{pid}/task/{pid}/children")
        found = children.read_text().split() if children.exists() else []
        return int(found[0]) if found else None

    def unplug(self) -> None:
        """No packet comes or goes, and nobody is told."""
        ip("link", "set", self._link, "down")

    def plug(self) -> None:
        ip("link", "set", self._link, "up")

    def power_off(self) -> None:
        """All its processes end in the same moment."""
        if pid := self.first_process():
            os.kill(pid, signal.SIGKILL)
            assert self.host
            assert self.host.process
            self.host.process.wait(20)

    def stop(self) -> int:
        """SIGTERM to what runs there; its exit code."""
        pid = self.first_process()
        assert pid
        assert self.host
        assert self.host.process
        os.kill(pid, signal.SIGTERM)
        until(lambda: self.first_process() is None, 60)
        return self.host.process.wait(10)
