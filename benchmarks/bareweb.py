"""What the product's web is compared with: bare views, in a project as `startproject` makes it, over the same database
and served by the same web server with as many threads."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from benchmarks import ROOT
from tests.service import Service

STARTS_WITHIN = 30.0  # seconds
THREADS = "88"  # settings.WEB_THREADS


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """The bare views over the service's database; their address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", port]
    command += ["--workers", "1", "--blocking-threads", THREADS, "--no-ws", "--log-level", "error"]
    environ = {**os.environ, **service.environ, "PROVOCATIVE_ROLE": "web", "PYTHONPATH": str(ROOT)}
    environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.bare.settings"
    process = subprocess.Popen([*command, "benchmarks.bare.views:application"], cwd=ROOT, env=environ)
    try:
        _await(f"http://127.0.0.1:{port}/", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _await(url: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + STARTS_WITHIN
    while True:
        assert process.poll() is None and time.monotonic() < end, "the bare views do not start"
        try:
            httpx.get(url, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
