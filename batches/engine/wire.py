"""One HTTP/1.1 connection to an upstream: one request at a time, its answer whole or not at all.

llhttp (through httptools) reads what comes; nothing of it is trusted: the answer's head and body are capped, its whole
time is the caller's, and bytes that nobody asked for end the connection. docs/decisions/0007-the-wire.md
"""

import asyncio
import zlib
from typing import Any

import httptools

from batches.core.answers import Answer

MAX_HEAD = 64 * 1024  # bytes before the body
MAX_BODY = 32 * 1024 * 1024  # bytes of an answer, as sent and decompressed
MAX_RETRY_AFTER = 100  # characters of the header that are looked at


class Dropped(Exception):
    """The connection ended before any byte of an answer."""


class Garbled(Exception):
    """What came is not one whole HTTP answer."""


class Connection(asyncio.Protocol):
    """Sends a request and gives its answer; `idle` tells whether it may carry another one."""

    def __init__(self) -> None:
        self.used = False  # it has carried a request to its end
        self.idle = False
        self._transport: Any = None
        self._parser: Any = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._begin()

    def _begin(self) -> None:
        self._seen = self._size = 0
        self._in_body = self._framed = False
        self._encoding = b""
        self._retry_after: str | None = None
        self._body: list[bytes] = []

    async def exchange(self, request: bytes, body: bytes, deadline: float) -> Answer:
        """Send and wait at most `deadline` seconds for the last byte.

        Raises Dropped, Garbled or TimeoutError; after any of them, or when cancelled, the connection is closed.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Answer] = loop.create_future()
        self._waiter = waiter
        self.idle = False
        self._begin()
        timer = loop.call_later(deadline, self._fail, TimeoutError())
        self._transport.writelines((request, body))
        try:
            answer = await waiter
        except BaseException:
            self.close()
            raise
        finally:
            timer.cancel()
        if not self.idle:
            self.close()
        return answer

    def close(self) -> None:
        self.idle = False
        if self._transport is not None:
            self._transport.abort()

    # --- what asyncio calls ----------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport, self._parser, self.idle = transport, httptools.HttpResponseParser(self), True

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:  # an answer that nobody asked for
            self.close()
            return
        self._seen += len(data)
        if not self._in_body and self._seen > MAX_HEAD + len(data):
            self._fail(Garbled())
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(Garbled())

    def connection_lost(self, error: Exception | None) -> None:
        self.idle = False
        if self._waiter is not None and self._in_body and not self._framed and error is None:
            self._answer()  # a body that ends with the connection
        else:
            self._fail(Garbled() if self._seen else Dropped())

    # --- what the parser calls -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._waiter is None:  # a second answer begins behind the first: its end would be taken for the next one
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-encoding":
            self._encoding = value.strip().lower()
        elif name == b"retry-after":
            self._retry_after = value[:MAX_RETRY_AFTER].decode("latin-1")
        elif name in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        self._in_body = self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > MAX_BODY:
            self._fail(Garbled())
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._waiter is None:  # a second answer behind the first
            self.close()
        elif self._in_body:
            self.idle = self._parser.should_keep_alive()
            self._answer()

    # --- ends ------------------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        waiter, self._waiter, self.used = self._waiter, None, True
        body = b"".join(self._body)
        try:
            if self._encoding not in (b"", b"identity"):
                body = inflate(body, self._encoding)
        except (Garbled, zlib.error):
            self._waiter = waiter
            self._fail(Garbled())
            return
        if waiter is not None and not waiter.done():
            waiter.set_result(Answer(self._parser.get_status_code(), body, self._retry_after))

    def _fail(self, error: Exception) -> None:
        waiter, self._waiter = self._waiter, None
        self.close()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)


def inflate(body: bytes, encoding: bytes) -> bytes:
    """Decompress an answer that was compressed unasked. Raises Garbled for what grows past the cap or is cut off."""
    if encoding not in (b"gzip", b"deflate"):
        raise Garbled
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    plain = inflater.decompress(body, MAX_BODY)
    if inflater.unconsumed_tail or not inflater.eof:
        raise Garbled
    return plain
