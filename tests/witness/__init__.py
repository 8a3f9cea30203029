"""A fake OpenAI-compatible upstream that witnesses what it is asked: the client's side.

with Witness() as witness:
    line = request_line("a1", faults=["500:2", "sleep-100"])
    ...                                          # run the product against witness.base_url
    assert witness.requests_by_marker() == {"line:a1": 3}
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 5.0
ANSWER_SECONDS = 60.0
RAW_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One request as the witness logged it.

    `status` is what was answered, the name of a fault, "gone" (the client left first), "down" or None (in flight);
    `fault` is what was decided for the request; `at` and `done_at` are time.time().
    """

    n: int
    marker: str
    path: str
    at: float
    attempt: int
    in_flight: int
    authorization: str | None
    auth_ok: bool
    user_agent: str | None
    body_sha256: str
    connection: int
    done_at: float | None
    status: str | None
    fault: str | None


class Witness:
    """The server in a subprocess; a context manager."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        latency_ms: tuple[float, float] | None = None,
        slots: int | None = None,
        tokens: int | None = None,
    ) -> None:
        command = [sys.executable, "-m", "tests.witness", "--host", host, "--port", str(port)]
        command += ["--latency-ms", *map(str, latency_ms)] if latency_ms else []
        command += ["--slots", str(slots)] if slots is not None else []
        command += ["--tokens", str(tokens)] if tokens is not None else []
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        first_line = self.process.stdout.readline()
        if not first_line:
            raise RuntimeError(f"the witness did not start: exit status {self.process.wait()}")
        self.port: int = json.loads(first_line)["port"]
        self.host, self.url = host, f"http://{host}:{self.port}"
        self.base_url = f"{self.url}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server; harmless when it has ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def configure(self, **settings: Any) -> None:
        """Change the settings named: latency_ms, slots, tokens, fault_rates, lasting_rates, seed, log, samples, down,
        required_key."""
        self._call("POST", "/witness/configure", settings)

    def reset(self, *, keep_settings: bool = False) -> None:
        """Forget every request and, unless kept, go back to the settings that the server was started with."""
        self._call("POST", "/witness/reset", {"keep_settings": keep_settings})

    def log(self) -> list[Entry]:
        return [Entry(**entry) for entry in self._call("GET", "/witness/log")]

    def statuses(self) -> list[str | None]:
        """The log's statuses, in the order of arrival."""
        return [entry.status for entry in self.log()]

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self._call("GET", "/witness/stats")
        return stats

    def plan(self, marker: str) -> dict[str, Any]:
        """{"marker", "lasting": kind or None, "passing": the random faults of ten attempts}."""
        plan: dict[str, Any] = self._call("GET", f"/witness/plan?marker={quote(marker)}")
        return plan

    def requests_by_marker(self) -> dict[str, int]:
        """How often each marker was seen; requests without one are left out. Kept with the log off, too."""
        counts: dict[str, int] = self._call("GET", "/witness/markers")
        counts.pop("-", None)
        return counts

    def lines(self) -> dict[str, tuple[int, float]]:
        """Of each marker: good answers that were sent to their end, and when it arrived last. Kept with the log off."""
        found: dict[str, Any] = self._call("GET", "/witness/lines")
        return {marker: (answered, at) for marker, (answered, at) in found.items() if marker != "-"}

    def until(self, holds: Callable[[dict[str, Any]], bool], seconds: float = 5.0) -> dict[str, Any]:
        """Wait till the stats satisfy the predicate; AssertionError when they do not in time."""
        end = time.monotonic() + seconds
        while not holds(stats := self.stats()):
            if time.monotonic() > end:
                raise AssertionError(f"not in {seconds} s; the witness's stats are {stats}")
            time.sleep(0.005)
        return stats

    def connect(self, data: bytes = b"") -> socket.socket:
        """A raw connection, three seconds patient, on which `data` has been sent."""
        sock = socket.create_connection((self.host, self.port), RAW_SECONDS)
        sock.sendall(data)
        return sock

    def _call(self, method: str, path: str, payload: object = None) -> Any:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, json.dumps(payload) if payload is not None else None)
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(answer["error"]["message"])
        return answer


def request_line(
    marker: str,
    *,
    custom_id: str | None = None,
    faults: Sequence[str] = (),
    model: str = "witness",
    pad: int = 0,
    url: str = "/v1/chat/completions",
    **body: Any,
) -> dict[str, Any]:
    """A line of a batch input file; the marker and the faults may be given with or without `line:` and `fault:`."""
    name = marker.removeprefix("line:")
    if not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise ValueError(f"{marker!r} is no marker")
    scripts = [f"fault:{fault.removeprefix('fault:')}" for fault in faults]
    text = " ".join([f"line:{name}", *scripts, *(["x" * pad] if pad else [])])
    asked: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": text}], "max_tokens": 16},
        "/v1/completions": {"prompt": text, "max_tokens": 16},
        "/v1/embeddings": {"input": text},
        "/v1/responses": {"input": text, "max_output_tokens": 16},
    }
    return {
        "custom_id": marker if custom_id is None else custom_id,
        "method": "POST",
        "url": url,
        "body": {"model": model, **asked[url], **body},
    }


def wire(line: dict[str, Any], headers: str = "", body: bytes | None = None) -> bytes:
    """The bytes of the HTTP request that sends a line's body (or another body) to its url."""
    body = json.dumps(line["body"]).encode() if body is None else body
    head = f"{line['method']} {line['url']} HTTP/1.1\r\nHost: witness\r\n{headers}Content-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def drain(sock: socket.socket) -> tuple[bytes, bool]:
    """What arrives until the connection ends, and whether it ended by a reset."""
    got = b""
    try:
        while piece := sock.recv(65536):
            got += piece
    except ConnectionResetError:
        return got, True
    return got, False
