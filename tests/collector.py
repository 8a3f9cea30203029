"""Where telemetry is sent to: a Sentry and an OTLP receiver of the tests' own, that keep what arrives."""

import gzip
import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """Inside `with` it takes what comes; it answers nobody while `answers` is not set."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []  # address, body
        self.answers = threading.Event()
        self.answers.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.dsn = f"http://public@127.0.0.1:{self._server.server_port}/1"

    def __enter__(self) -> "Collector":
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.answers.wait()
                collector.bodies.append((self.path, body))
                with suppress(OSError):  # nobody waited for it
                    self.send_response(200)
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def everything(self) -> bytes:
        return b"\n".join(body for _, body in self.bodies)

    def events(self) -> list[dict[str, Any]]:
        """Sentry's: of each envelope the items that are events."""
        found = []
        for path, body in self.bodies:
            if path == "/api/1/envelope/":
                lines = body.split(b"\n")
                found += [
                    json.loads(lines[n + 1]) for n, line in enumerate(lines[:-1]) if b'"type":"event"' in line[:80]
                ]
        return found

    def spans(self) -> list[tuple[dict[str, Any], Span]]:
        """OpenTelemetry's, each with its resource."""
        found = []
        for path, body in self.bodies:
            if path == "/v1/traces":
                for each in ExportTraceServiceRequest.FromString(body).resource_spans:
                    resource = values(each.resource.attributes)
                    found += [(resource, span) for scope in each.scope_spans for span in scope.spans]
        return found


def values(attributes: Any) -> dict[str, Any]:
    """Attributes as a dict."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
