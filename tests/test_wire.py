"""The engine's HTTP client against servers that break every rule: whole answers or none, in bounded time and memory."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from batches.core.answers import Answer
from batches.engine import wire
from batches.engine.upstream import Client, Target, Withheld
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only  # no database in it

ENDPOINT = "/v1/chat/completions"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(scope="module")
def server() -> Iterator[Witness]:
    with Witness() as witness:
        yield witness


def body(*faults: str) -> bytes:
    import json

    return json.dumps(request_line("w", faults=faults)["body"]).encode()


def posts(base_url: str, *bodies: bytes, deadline: float = 5) -> list[Answer]:
    async def run() -> list[Answer]:
        client = Client(deadline)
        try:
            return [await client.post(Target(base_url, ENDPOINT), each) for each in bodies]
        finally:
            client.close()

    return asyncio.run(run())


def scripted(answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], *bodies: bytes) -> Any:
    """What the client makes of a server that does what `answer` does, on each connection."""

    async def run() -> list[Answer]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await answer(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = Client(5)
        async with server:
            found = [
                await client.post(Target(f"http://127.0.0.1:{port}/v1", ENDPOINT), each) for each in bodies or [b"{}"]
            ]
            client.close()
        return found

    return asyncio.run(run())


async def take(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    return head + await reader.readexactly(length)


@pytest.mark.parametrize(
    "fault",
    ["truncate", "truncate-chunked", "reset-headers", "reset-body", "gzip-bomb", "endless"],
)
def test_half_an_answer_is_none(server: Witness, fault: str) -> None:
    server.reset()
    assert posts(server.base_url, body(fault)) == [Answer(0, b"", error="invalid_upstream_response")]
    assert len(server.log()) == 1


@pytest.mark.parametrize("fault", ["hang", "drip", "slow-headers"])
def test_the_deadline_is_for_the_whole_attempt(server: Witness, fault: str) -> None:
    server.reset()
    started = time.monotonic()
    assert posts(server.base_url, body(fault), deadline=1.2)[0].error == "request_timeout"
    assert time.monotonic() - started < 3
    server.until(lambda stats: stats["in_flight"] == 0)


def test_a_reset_on_a_fresh_connection_counts(server: Witness) -> None:
    server.reset()
    assert posts(server.base_url, body("reset")) == [Answer(0, b"", error="upstream_unreachable")]
    assert len(server.log()) == 1


def test_what_stands_behind_an_answer_is_not_the_next_one(server: Witness) -> None:
    """Also when it begins in the same packet and would end in the next request's time."""
    connections = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await take(reader)
            writer.write(OK + b"HTTP/1.1 200 OK\r\nContent-Le")
            await take(reader)
            writer.write(b'ngth: 11\r\n\r\n{"wrong":1}')

    assert [answer.body for answer in scripted(answer, b"{}", b"{}")] == [b"{}", b"{}"]
    assert len(connections) == 2


def test_what_was_connected_too_late_is_not_sent(server: Witness) -> None:
    """A runner that is stopped while it connects wakes up after its lease: others run the line by then."""
    server.reset()

    async def run() -> None:
        client = Client(5, may_send=lambda: False)
        with pytest.raises(Withheld):
            await client.post(Target(server.base_url, ENDPOINT), body())

    asyncio.run(run())
    assert not server.log()


def test_a_drop_of_a_reused_connection_is_tried_again(server: Witness) -> None:
    server.reset()
    assert [answer.status for answer in posts(server.base_url, body(), body("drop-reused"))] == [200, 200]


def test_nobody_listens() -> None:
    (answer,) = posts("http://127.0.0.1:1/v1", b"{}")
    assert (answer.error, answer.unsent) == ("upstream_unreachable", True)


def test_an_answer_nobody_asked_for_reaches_no_other_line(server: Witness) -> None:
    server.reset()
    answers = posts(server.base_url, body("duplicate"), *[body()] * 3)
    assert [answer.status for answer in answers] == [200] * 4
    assert len({answer.body for answer in answers}) == 4, "each has an id of its own: none slipped to the next"


def test_redirects_are_answers(server: Witness) -> None:
    server.reset()
    assert posts(server.base_url, body("redirect"))[0].status == 302
    assert "trap" not in server.requests_by_marker()


def test_interim_answers_are_passed_over() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take(reader)
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)
        await writer.drain()

    assert scripted(answer)[0] == Answer(200, b"{}")


def test_a_body_may_end_with_the_connection() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nRetry-After: 7\r\n\r\n{}")
        await writer.drain()

    assert scripted(answer) == [Answer(200, b"{}", "7")]


def test_a_closed_connection_is_not_used_again() -> None:
    seen = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await take(reader))
        writer.write(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await writer.drain()

    assert [each.status for each in scripted(answer, b"{}", b"{}")] == [200, 200]
    assert len(seen) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * (2 * wire.MAX_HEAD),
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * wire.MAX_HEAD,
    ],
)
def test_what_is_no_http_is_no_answer(answer: bytes) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take(reader)
        writer.write(answer)
        await writer.drain()
        await reader.read()

    assert scripted(say) == [Answer(0, b"", error="invalid_upstream_response")]


def test_the_request_is_what_it_should_be() -> None:
    seen = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await take(reader))
        writer.write(OK)
        await writer.drain()

    scripted(answer, b'{"a": "\xc3\xa9"}')
    head, _, sent = seen[0].partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"POST /v1/chat/completions HTTP/1.1"
    assert b"Content-Type: application/json" in head.splitlines()
    assert sent == b'{"a": "\xc3\xa9"}'


def test_a_key_can_not_smuggle_a_header() -> None:
    with pytest.raises(ValueError, match="not the address"):
        Target("http://127.0.0.1/v1", ENDPOINT, "key\r\nX: y")
