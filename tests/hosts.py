"""Hosts of one service: each a `web` or a `worker` with a home of its own, on a database and a storage they share."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests import environment
from tests.service import ROOT


class Host:
    """One host's command, in a process of its own; `inside` is what puts it elsewhere, such as `ip netns exec NAME`."""

    def __init__(
        self,
        *command: str,
        environ: Mapping[str, str],
        inside: Sequence[str] = (),
        root: Path = ROOT,
        home: Path | None = None,
    ) -> None:
        self.home = home or Path(tempfile.mkdtemp(prefix=f"{command[0]}-", dir=environment.HOME))
        self.command = [*inside, sys.executable, "manage.py", *command]
        self.environ = {**os.environ, **environ, "PROVOCATIVE_HOME": str(self.home)}
        self.root, self.ready = root, ""
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> "Host":
        """Start it and wait for what it says when it is ready. Raises AssertionError with its log when it ends."""
        self.begin()
        return self.await_ready()

    def begin(self) -> None:
        with open(self.home / "host.log", "a") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.root, env=self.environ, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def await_ready(self) -> "Host":
        assert self.process
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("ready "):
                self.ready = line.split()[1]
                return self
        raise AssertionError(f"{self.command[-1]} ended: {self.log()[-2000:]}")

    def log(self) -> str:
        return (self.home / "host.log").read_text()

    def stop(self, how: int = signal.SIGTERM, seconds: float = 60) -> int:
        """Its exit code."""
        assert self.process
        self.process.send_signal(how)
        code = self.process.wait(seconds)
        assert self.process.stdout
        self.process.stdout.close()  # it may be started again
        return code

    def remove(self) -> None:
        """Whatever still runs of it ends at once: the children die with their supervisor."""
        if self.process:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.process.stdout:
                self.process.stdout.close()
