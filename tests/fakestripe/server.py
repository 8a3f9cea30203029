"""Stripe's HTTP: forms, errors, idempotency keys with their end, and the ways in which a call can go wrong."""

import contextlib
import copy
import hashlib
import hmac
import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import httpx

from tests.fakestripe.objects import Object, Objects, Refusal, invalid, routed

KEY, SECRET = "sk_test_fake", "whsec_fake"
KEYS_KEPT = 24 * 3600  # seconds
FAILED: Object = {"error": {"type": "api_error", "message": ""}}


def signed(event: Any, at: float | None = None, secret: str = SECRET) -> tuple[bytes, str]:
    """A webhook's body and its Stripe-Signature. Written from the documentation, not from the library."""
    body, stamp = json.dumps(event).encode(), int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return body, f"t={stamp},v1={digest}"


def tree(pairs: list[tuple[str, str]]) -> Object:
    """`a[b][0]=c` as nested dicts and lists."""
    found: Object = {}
    for name, value in pairs:
        head, *rest = name.replace("]", "").split("[")
        at = found
        for key in rest:
            at, head = at.setdefault(head, {}), key
        at[head] = {"true": True, "false": False}.get(value, value)
    listed: Object = _lists(found)
    return listed


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    found = {key: _lists(each) for key, each in value.items()}
    return list(found.values()) if found and all(key.isdigit() or not key for key in found) else found


class Handler(BaseHTTPRequestHandler):
    server: "FakeStripe"
    protocol_version = "HTTP/1.1"
    wbufsize, disable_nagle_algorithm = -1, True  # an answer in one packet: the tests make thousands of calls

    def do_GET(self) -> None:
        self._answer("GET", urlsplit(self.path).query)

    def do_POST(self) -> None:
        self._answer("POST", self.rfile.read(int(self.headers["Content-Length"] or 0)).decode())

    def do_DELETE(self) -> None:
        self._answer("DELETE", "")

    def _answer(self, method: str, form: str) -> None:
        path = urlsplit(self.path).path
        fault = self.server.begin(method, path)
        headers: dict[str, str] = {}
        if fault == "reset":
            return self._reset()
        if fault in ("500", "429"):
            status, body = int(fault), FAILED
        else:
            status, body, headers = self.server.handled(method, path, form, self.headers, fault)
        if fault == "lost":
            return self._reset()
        if fault == "slow":
            self.server.closing.wait(5)
            return self._reset()
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)
        return None

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *args: Any) -> None:
        pass


class FakeStripe(ThreadingHTTPServer):
    """`faults`: by the number of a call from 0 on, how it goes wrong: reset, 500, 429 before it is accepted;
    "500 kept" the same, and said again for its key; lost, slow, "500 after" when it was accepted."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects = Objects()
        self.calls: list[str] = []
        self.faults: dict[int, str] = {}
        self.pushed = 0
        self.closing = threading.Event()
        self._keys: dict[str, tuple[str, int, Object, float]] = {}
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def begin(self, method: str, path: str) -> str:
        with self._lock:
            self.calls.append(f"{method} {path}")
            return self.faults.pop(len(self.calls) - 1, "")

    def handled(
        self, method: str, path: str, form: str, headers: Any, fault: str
    ) -> tuple[int, Object, dict[str, str]]:
        """What comes of a call. Answers, failures too, are repeated for their key, unless it was refused before it
        was begun."""
        key = headers.get("Idempotency-Key") if method == "POST" else None
        asked = f"{path} {form}"
        if headers.get("Authorization") != f"Bearer {KEY}":
            return 401, {"error": {"type": "invalid_request_error", "message": "Invalid API Key: sk_test_****"}}, {}
        with self._lock:
            known = self._keys.get(key or "")
            if known and known[3] > self.objects.now() - KEYS_KEPT:
                if known[0] != asked:
                    return 400, {"error": {"type": "idempotency_error", "message": "other parameters"}}, {}
                return known[1], known[2], {"Idempotent-Replayed": "true"}
            if fault == "500 kept":
                if key:
                    self._keys[key] = (asked, 500, FAILED, self.objects.now())
                return 500, FAILED, {}
            try:
                status, body = 200, self._done(method, path, tree(parse_qsl(form, keep_blank_values=True)))
            except Refusal as refusal:
                return refusal.status, refusal.body, {"Request-Id": "req_1"}
            if fault == "500 after":
                status, body = 500, FAILED
            if key:
                self._keys[key] = (asked, status, body, self.objects.now())
            return status, body, {"Request-Id": "req_1"}

    def _done(self, method: str, path: str, sent: Object) -> Object:
        expand = sent.pop("expand", [])
        for call, parts in routed(method, path):
            found = copy.deepcopy(call(self.objects, sent, *parts))
            for name in expand:
                self._expand(found, name.split("."))
            return found
        raise invalid("url_invalid", 404)

    def _expand(self, found: Object, names: list[str]) -> None:
        for name in names[:-1]:
            found = found[name]
        found[names[-1]] = copy.deepcopy(self.objects.all.get(found[names[-1]]))

    def push(self, url: str) -> list[int]:
        """Send the events that were not sent yet, as webhooks; what was answered."""
        fresh, self.pushed = self.objects.events[self.pushed :], len(self.objects.events)
        answers = []
        for event in fresh:
            body, signature = signed(event)
            headers = {"Stripe-Signature": signature, "Content-Type": "application/json"}
            answers.append(httpx.post(url, content=body, headers=headers, trust_env=False).status_code)
        return answers

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The other side went away, as some tests want it."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self.shutdown()
        self.server_close()
        self._thread.join()
