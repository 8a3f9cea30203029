"""What an upstream sends: bytes of HTTP to the wire, and the body to the verdict and its tokens.

The input is both: what comes over the connection, and a body of its own.
"""

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from zlib import crc32

import h11

from batches.core import retrying
from batches.core.answers import MAX_TOKENS, NO_USAGE, Answer, judge
from batches.core.requests import ENDPOINTS
from batches.core.splicing import replace_model
from batches.engine.wire import Connection, Dropped, Garbled
from tests import hostile
from tests.fuzz import strict
from tests.fuzz.strict import Object

EACH_BYTE = 100  # longest answer that also comes by single bytes
STATUSES = (200, 201, 302, 400, 401, 408, 429, 500, 501, 503)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ASKED = b'{"model":"m","messages":[1],"n":2,"max_tokens":9}'
CHOICE = b'{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}'
USAGE = b'{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":3}}'
BODIES = (
    b'{"id":"a","object":"chat.completion","model":"m","choices":[%b],"usage":%b}' % (CHOICE, USAGE),
    b'{"object":"text_completion","choices":[{"text":"Hi","finish_reason":"length"},{"text":"You"}],"usage":{"prompt_tokens":1}}',
    b'{"object":"list","data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":4,"total_tokens":4}}',
    b'{"object":"response","output":[{"type":"message"}],"usage":{"input_tokens":1,"output_tokens":2}}',
    b'{"error":{"message":"too long","code":400}}', b"<html>502 Bad Gateway</html>",
)  # fmt: skip
HEADS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b", b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: %d\r\n\r\n%b",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n%b",
)  # fmt: skip
TOKENS = (
    b"HTTP/1.1 ", b"HTTP/1.0 ", b"200", b"204", b"304", b"100", b"101", b"429", b"\r\n", b"\r\n\r\n", b"\n\n", b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Upgrade: h2c\r\n",
    b"Content-Encoding: gzip\r\n", b"Retry-After: 7\r\n", b"Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n", b"0\r\n\r\n", b"ffffffff",
    b'"choices":[{}]', b'"usage":', b'"prompt_tokens":', b'"completion_tokens":', b'"cached_tokens":', b'"object":', b"-1", b"1e9",
    b"100000000", b"100000001", b"null", b"[", b"]", b"{", b"}", b"\\ud800", b"\x00", b"\xff", b"\n", b"NaN",
)  # fmt: skip


def seeds() -> dict[str, bytes]:
    """Each body by itself and in each frame, and JSONTestSuite within an answer."""
    frames = {
        f"http {h} {b}": head % (len(body), body) for h, head in enumerate(HEADS) for b, body in enumerate(BODIES)
    }
    files = {name: content for name, content in hostile.json_files().items() if len(content) < 1000}
    within = {
        name: b'{"choices":[{}],"more":%b,"usage":{"prompt_tokens":%b}}' % (file, file) for name, file in files.items()
    }
    return {**frames, **{str(n): body for n, body in enumerate(BODIES)}, **within}


def check(data: bytes) -> None:
    """One answer however it came, no other than a strict reader's; and a verdict of any body."""
    dice = random.Random(crc32(data))
    outcomes = asyncio.run(_outcomes([*_chunkings(data, dice)]))
    assert len({repr(outcome) for outcome, _ in outcomes}) == 1, outcomes
    assert len({idle for _, idle in outcomes}) == 1 or data[-1:] in b"\r\n", "blank lines behind an answer do no harm"
    answer = outcomes[0][0]
    if isinstance(answer, Answer):
        _as_h11(data, answer)
        asked = retrying.retry_after(answer.retry_after, NOW)
        assert asked is None or 0 <= asked <= retrying.RETRY_AFTER_CAP
        _judged(answer)
    for status in STATUSES:
        _judged(Answer(status, data))
    asked = retrying.retry_after(data.decode("latin-1"), NOW)
    assert asked is None or 0 <= asked <= retrying.RETRY_AFTER_CAP


def _chunkings(data: bytes, dice: random.Random) -> Iterator[list[bytes]]:
    yield [data]
    if len(data) <= EACH_BYTE:
        yield [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.randrange(9)))
    yield [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]


class _Transport:
    """Takes what is sent, and forgets it."""

    def writelines(self, pieces: Any) -> None:
        pass

    def abort(self) -> None:
        pass


async def _outcomes(chunkings: list[list[bytes]]) -> list[tuple[Any, bool]]:
    return [await _outcome(chunks) for chunks in chunkings]


async def _outcome(chunks: list[bytes]) -> tuple[Any, bool]:
    """The answer, or the class of what was raised; and whether the connection may be used again before it ends."""
    connection = Connection()
    connection.connection_made(_Transport())
    exchange = asyncio.ensure_future(connection.exchange(b"", b"", 60))
    await asyncio.sleep(0)
    for chunk in filter(None, chunks):
        connection.data_received(chunk)
    idle = connection.idle
    connection.connection_lost(None)
    try:
        return await exchange, idle
    except (Dropped, Garbled) as error:
        return type(error), idle


def _as_h11(data: bytes, answer: Answer) -> None:
    """Where another strict reader gets an answer, too, it is the same one."""
    other = h11.Connection(h11.CLIENT)
    other.send(h11.Request(method="POST", target="/", headers=[("Host", "a"), ("Content-Length", "0")]))
    other.send(h11.EndOfMessage())
    status, body, encoded = 0, b"", False
    try:
        other.receive_data(data)
        other.receive_data(b"")
        while not isinstance(event := other.next_event(), h11.EndOfMessage):
            if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                return
            if isinstance(event, h11.Response):
                status = event.status_code
                encoded = any(name == b"content-encoding" for name, _ in event.headers)
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
    except h11.ProtocolError:
        return
    assert status == answer.status and (encoded or body == answer.body), (status, body, answer)


def _judged(answer: Answer) -> None:
    for endpoint in ENDPOINTS:
        verdict = judge(endpoint, answer, ASKED)
        assert not verdict.delivered or (verdict.final and 200 <= answer.status < 300)
        assert (
            0 <= verdict.usage.cached <= verdict.usage.input <= MAX_TOKENS and 0 <= verdict.usage.output <= MAX_TOKENS
        )
        assert not (verdict.flag == "usage_missing" or not verdict.delivered) or verdict.usage == NO_USAGE
        assert b"\n" not in verdict.body and b"\r" not in verdict.body
        if verdict.body:
            _one_line(verdict.body)
        if verdict.delivered:
            _delivered(answer.body, verdict.body)


def _one_line(body: bytes) -> None:
    """It is JSON, as it must be to stand in a line of the output."""
    with suppress(strict.Deep):
        strict.read(body)


def _delivered(came: bytes, body: bytes) -> None:
    """What the tenant gets is what came, but for the model's public name."""
    try:
        value = strict.read(came)
    except strict.Deep:
        return
    assert isinstance(value, Object) and strict.read(body) == value
    renamed = strict.read(replace_model(body, "public"))
    assert dict(renamed) == dict(value) | ({"model": "public"} if "model" in dict(value) else {})
