"""Clients whose bodies come slowly, or not at all: they may not keep a thread."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory

from provocative import bodies, connections
from provocative.bodies import GRACE, RATE, Body, TooSlow
from provocative.middleware import BoundedBodies
from tests.conftest import Person, serving
from tests.test_pause import code

pytestmark = pytest.mark.sqlite_only

FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=B"
BEGUN = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{}\n'


@contextmanager
def sending(address: str, path: str, media: str, key: str = "") -> Iterator[socket.socket]:
    """A client that has sent the head of a request with a body of 100,000 bytes."""
    at = urlsplit(address)
    csrf = "a" * 32
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nCookie: csrftoken={csrf}\r\n"
    head += f"Content-Type: {media}\r\nContent-Length: 100000\r\n\r\n"
    with socket.create_connection((at.hostname, at.port), 10) as client:
        client.sendall(head.encode())
        yield client


def all_of(client: socket.socket, drip: bytes = b"") -> bytes:
    """What it is answered until the connection ends, while it sends a byte at a time."""
    client.settimeout(0.05 if drip else 10)
    answer, drops = b"", 0
    while True:
        try:
            piece = client.recv(65536)
        except TimeoutError:
            drops += 1
            assert drops < 200
            client.sendall(drip)
            continue
        if not piece:
            return answer
        answer += piece


def test_who_sends_too_slowly_is_refused_and_the_connection_ends(owner: Person) -> None:
    with serving("tests.impatient:application") as address, httpx.Client(base_url=address, trust_env=False) as other:
        assert other.get("/v1/limits", headers={"Authorization": f"Bearer {owner.key}"}).status_code == 200
        with (
            sending(address, "/account/login/", FORM) as silent,
            sending(address, "/v1/batches", "application/json", owner.key) as dripping,
            sending(address, "/v1/batch", MULTIPART, owner.key) as uploading,
        ):
            uploading.sendall(BEGUN)
            answers = [all_of(dripping, b" "), all_of(silent), all_of(uploading)]
        assert [answer.split(b"\r\n")[0] for answer in answers] == [b"HTTP/1.1 408 Request Timeout"] * 3
        assert [b"request_timeout" in answer for answer in answers] == [
            True,
            False,
            True,
        ]  # a line of text for no browser
        assert other.get("/healthz").status_code == 200
        assert owner.get("/v1/files").json()["data"] == []


class Dripping:
    """A web server's body: each piece takes as long as that."""

    def __init__(self, seconds: float) -> None:
        self.now, self._seconds = 0.0, seconds

    def clock(self) -> float:
        return self.now

    def read(self, size: int) -> bytes:
        self.now += self._seconds
        return b"x" * size


def body(seconds: float, length: int) -> Body:
    stream = Dripping(seconds)
    return Body(stream, length, clock=stream.clock)


def test_what_comes_fast_enough_is_taken() -> None:
    pieces = 100
    length = pieces * bodies.PIECE
    as_slow_as_may_be = (GRACE + length / RATE) / pieces
    assert len(body(bodies.PIECE / RATE, length).read()) == length
    assert body(1, length).readline(10) == b"x" * 10
    with pytest.raises(TooSlow):
        body(as_slow_as_may_be + 0.01, length).read()


def test_our_own_time_is_not_the_clients() -> None:
    stream = Dripping(1)
    read = Body(stream, 3, clock=stream.clock)
    for _ in range(3):
        assert read.read(1) == b"x"
        stream.now += 10 * GRACE
    assert read.read(1) == b""


def test_a_small_form_has_the_grace_and_no_more() -> None:
    assert body(GRACE, 10).read() == b"x" * 10
    late = body(GRACE + 1, 10)
    for _ in range(2):
        with pytest.raises(TooSlow):
            late.read()


def test_only_a_body_that_is_waited_for_is_late() -> None:
    seen = []

    class Looking(Dripping):
        def read(self, size: int) -> bytes:
            self.now += GRACE - 1
            seen.append(read.is_late())
            self.now += 2
            seen.append(read.is_late())
            return b"x" * size

    stream = Looking(0)
    read = Body(stream, 10, clock=stream.clock)
    stream.now += 10 * GRACE
    assert not read.is_late()
    with pytest.raises(TooSlow):
        read.read()
    assert seen == [False, True]


def test_a_late_body_is_refused_whatever_was_made_of_it() -> None:
    """As by the CSRF check, which says that there was no token."""

    def swallow(request: HttpRequest) -> HttpResponse:
        try:
            request.POST  # noqa: B018 - reading it parses the body
        except OSError:
            return HttpResponse("no token", status=403)
        return HttpResponse("taken")

    stream = Dripping(GRACE + 1)
    sent: Any = {"wsgi.input": Body(stream, 3, clock=stream.clock)}
    answer = BoundedBodies(swallow)(RequestFactory().post("/account/login/", b"a=b", FORM, **sent))
    assert (answer.status_code, answer["Connection"]) == (408, "close")


def test_the_refusal_is_as_all_are(owner: Person) -> None:
    stream = Dripping(GRACE + 1)
    sent: Any = {"wsgi.input": Body(stream, 2, clock=stream.clock)}
    client = Client(headers={"Authorization": f"Bearer {owner.key}"}, raise_request_exception=False)
    assert code(client.generic("POST", "/v1/batches", b"{}", "application/json", **sent), 408) == "request_timeout"


def test_only_connections_on_which_nothing_moves_end() -> None:
    """Of an address: neither those that got us enough, nor those that were sent something a moment ago."""
    here = {ip_address("127.0.0.5")}  # where none of the other tests' are
    with socket.create_server(("127.0.0.1", 0)) as server:
        begun = socket.create_connection(server.getsockname(), 5, ("127.0.0.5", 0))
        with begun as client, server.accept()[0] as ours:
            name = (ours.getsockname(), ours.getpeername())
            before = connections.end_idle(here, {}, 10, 0)
            assert before[name] == 0
            client.sendall(b"x" * 10)
            assert ours.recv(10)
            before = connections.end_idle(here, before, 10, 0)  # enough
            assert before[name] == 10
            connections.end_idle(here, before, 10, 60)  # sent something since, as far as it can be known
            connections.end_idle({ip_address("127.0.0.2")}, before, 10, 0)  # of another address
            ours.settimeout(0.05)
            with pytest.raises(TimeoutError):
                ours.recv(1)
            connections.end_idle(here, before, 10, 0)
            assert ours.recv(1) == b""
