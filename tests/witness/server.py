"""The witness's wire: an HTTP/1.1 protocol, parsed by hand, that answers or misbehaves as the book decides."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Callable
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from . import faults
from .faults import Ask, Reply, Step

if TYPE_CHECKING:
    from .__main__ import Book, Record

MOST_HEAD_BYTES = 65536
RESET_AFTER_SECONDS = 0.02
REFUSED_CLOSE_SECONDS = 1.0
HEADER = re.compile(rb"\r\n([!-9;-~]+):[ \t]*([^\r\n]*)")
CONTROL, TRAP = "/witness/", "/witness/trap"
NO_LINGER = struct.pack("ii", 1, 0)


class Head(NamedTuple):
    """The parts of a request head that matter here; `refusal` is the status to refuse it with."""

    refusal: int | None
    method: str = ""
    path: str = ""
    query: str = ""
    length: int = 0
    expect: bool = False
    close: bool = True
    authorization: str | None = None
    user_agent: str | None = None


@lru_cache(4096)
def parse_head(raw: bytes) -> Head:
    """Parse a head without its blank line."""
    parts = raw.partition(b"\r\n")[0].decode("latin-1").split(" ")
    headers = {name.lower().decode(): value.strip().decode("latin-1") for name, value in HEADER.findall(raw)}
    length = headers.get("content-length", "0")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1.") or not re.fullmatch("[0-9]{1,15}", length):
        return Head(400)
    refusal = 411 if "transfer-encoding" in headers else None
    path, _, query = parts[1].partition("?")
    connection = headers.get("connection", "").lower()
    close = "close" in connection or (parts[2] == "HTTP/1.0" and "keep-alive" not in connection)
    expect = headers.get("expect", "").lower() == "100-continue"
    key, agent = headers.get("authorization"), headers.get("user-agent")
    return Head(refusal, parts[0], path, query, int(length), expect, close, key, agent)


class Connection(asyncio.Protocol):
    """One client connection: its requests are taken one at a time, in order."""

    transport: asyncio.Transport

    def __init__(self, book: Book, loop: asyncio.AbstractEventLoop) -> None:
        self.book = book
        self.loop = loop
        self.buffer = bytearray()
        self.head: Head | None = None
        self.record: Record | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.number = self.served = 0
        self.works = self.closing = self.continued = self.paused = self.over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.book.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.book.connections.discard(self)
        self._finish("gone")
        self.over = True

    def drop(self) -> None:
        """Close without another byte, as a server does that goes down."""
        self._finish("down")
        self.over = True
        self.transport.abort()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def data_received(self, data: bytes) -> None:
        if not self.over:
            self.buffer += data
            self._advance()

    def _advance(self) -> None:
        while self.record is None and not self.over and self._take():
            pass

    def _take(self) -> bool:
        """Handle one whole request of the buffer; False when there is none."""
        head = self.head or self._take_head()
        if head is None:
            return False
        if len(self.buffer) < head.length:
            if head.expect and not self.continued:
                self.continued = True
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return False
        body = bytes(self.buffer[: head.length])
        del self.buffer[: head.length]
        self.head, self.continued, self.closing = None, False, head.close
        if head.path.startswith(CONTROL) and head.path != TRAP:
            self.transport.write(self.book.control(head, body))
            self._close_if_asked()
        else:
            self._serve(head, body)
        return True

    def _take_head(self) -> Head | None:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self.buffer) > MOST_HEAD_BYTES:
                self._refuse(431)
            return None
        head = parse_head(bytes(self.buffer[:end]))
        del self.buffer[: end + 4]
        if self.book.settings.down and not head.path.startswith(CONTROL):
            self.book.refused += 1
            self.drop()
            return None
        if head.refusal:
            self._refuse(head.refusal)
            return None
        self.head = head
        return head

    def _refuse(self, status: int) -> None:
        """Answer, then let the client send its rest, so that no reset overtakes the answer."""
        self.book.malformed += 1
        message = "witness: not a request that it takes"
        self.transport.write(faults.error(status, message, None, "Connection: close\r\n"))
        self.transport.write_eof()
        self.over = True
        self.loop.call_later(REFUSED_CLOSE_SECONDS, self.transport.close)

    def _close_if_asked(self) -> None:
        if self.closing:
            self.over = True
            self.transport.close()

    def _serve(self, head: Head, body: bytes) -> None:
        book = self.book
        self.number = self.number or book.next_connection()
        self.works = head.method == "POST" and head.path in faults.SHAPES
        marker = "trap" if head.path == TRAP else faults.marker_of(body)
        self.record = record = book.arrive(head, body, marker, self.number, self.works)
        refusal = book.refusal(head, record, self.works)
        if refusal is not None:
            self._send(refusal)
            return
        step = book.decide(record, body)
        record.fault = step.kind if step else None
        reply = self._compose(step, body, record)
        delay = reply.delay + book.latency()
        if delay:
            self._later(delay, self._send, reply)
        else:
            self._send(reply)

    def _compose(self, step: Step | None, body: bytes, record: Record) -> Reply:
        if step and step.kind == "drop-reused" and self.served:
            return Reply(b"", "drop-reused", "fin")
        try:
            asked = json.loads(body)
            model, inputs = asked.get("model"), asked.get("input")
        except (ValueError, AttributeError, RecursionError):
            return Reply(faults.error(400, "witness: the body is not a JSON object", "invalid_json"), "400")
        count = len(inputs) if isinstance(inputs, list) and inputs and not isinstance(inputs[0], int) else 1
        name = model if isinstance(model, str) else "witness"
        where = (record.path, record.marker, name, len(body), self.book.serial, record.at)
        return faults.compose(step, Ask(*where, count, self.book.settings.tokens))

    def _later(self, delay: float, act: Callable[[Reply], None], reply: Reply) -> None:
        self.timer = self.loop.call_later(delay, self._resume, act, reply)

    def _resume(self, act: Callable[[Reply], None], reply: Reply) -> None:
        act(reply)
        self._advance()

    def _send(self, reply: Reply) -> None:
        if reply.data:
            self.transport.write(reply.data)
        if reply.stream is not None:
            self._later(reply.interval, self._trickle, reply)
        elif reply.ending == "rst" and reply.data:
            self._later(RESET_AFTER_SECONDS, self._end, reply)
        elif reply.ending != "hold":
            self._end(reply)

    def _trickle(self, reply: Reply) -> None:
        """Send one piece, unless the client does not read, and come back after the interval. With the last one it is
        answered: the client may be gone at once."""
        assert reply.stream is not None
        if not self.paused:
            piece, following = next(reply.stream, None), next(reply.stream, None)
            self.transport.write(piece or b"")
            if following is None:
                self._end(reply)
                return
            reply = reply._replace(stream=chain([following], reply.stream))
        self._later(reply.interval, self._trickle, reply)

    def _end(self, reply: Reply) -> None:
        self.served += 1
        self._finish(reply.status)
        if reply.ending == "rst":
            sock: socket.socket = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self.over = True
            self.transport.abort()
        else:
            self.closing |= reply.ending == "fin"
            self._close_if_asked()

    def _finish(self, status: str) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.record is not None:
            self.book.finish(self.record, status, self.works)
            self.record = None
