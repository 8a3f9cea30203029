"""The server of `/metrics` and `/healthz`: for Prometheus alone, on an address of its own."""

import logging
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from provocative.addresses import Address
from provocative.exposition.collecting import Exposed

log = logging.getLogger(__name__)

MERGE_EVERY = 30.0  # seconds
TEXT = "text/plain; charset=utf-8"


class Server(ThreadingHTTPServer):
    """Answers, and between two answers adds up what dead processes counted."""

    daemon_threads = True

    def __init__(self, at: Address, folder: Path) -> None:
        self.address_family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
        super().__init__((at.host, at.port), Handler)
        self.exposed = Exposed(folder)
        self._merged = time.monotonic()

    def service_actions(self) -> None:
        """Called by the server's loop, twice a second."""
        if time.monotonic() - self._merged < MERGE_EVERY:
            return
        self._merged = time.monotonic()
        try:
            self.exposed.merge_dead()
        except OSError as error:
            log.warning("counts of dead processes stay as they are: %s", error)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asked has gone, mostly."""
        log.debug("a scrape came to nothing")


class Handler(BaseHTTPRequestHandler):
    """GET of two paths; nothing else is answered."""

    server: Server
    timeout: ClassVar[float | None] = 10.0
    server_version, sys_version = "provocative", ""

    def do_GET(self) -> None:
        """Answer it."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, self.server.exposed.text())
        elif path == "/healthz":
            self._answer(200, TEXT, b"ok\n")
        else:
            self._answer(404, TEXT, b"Only /metrics and /healthz are here.\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its caller's name
        """A scrape is no news."""

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
