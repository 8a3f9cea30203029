"""Bodies of requests as they come, from clients who may not let us wait for ever.

The web server's `read` comes back when all it was asked for is there, or the connection ends. So what is late is looked
at from another thread, which ends the connection. docs/decisions/0040-slow-clients.md
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import IOBase
from ipaddress import ip_address
from typing import Any

from provocative import connections
from provocative.connections import Address

log = logging.getLogger(__name__)

GRACE = 30.0  # seconds that a client may let us wait in all, and
RATE = 16 * 1024  # bytes for each second beyond
PIECE = 64 * 1024  # bytes
LOOK = 5.0  # seconds from one look at those who are late to the next


class TooSlow(OSError):
    """A client let us wait too long. Django makes an UnreadablePostError of it."""


class Body(IOBase):
    """`stream`, the web server's, of which `length` bytes are to come from `address`. Reading it raises TooSlow."""

    def __init__(
        self, stream: Any, length: int, address: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream, self._left, self.taken, self._clock = stream, length, 0, clock  # bytes
        self.address = address
        self._waited = 0.0  # seconds; what we do with the bytes is not the client's time
        self._since: float | None = None  # it waits now
        self.slow = False

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """As many bytes as that, or all; fewer when the connection ends."""
        left = self._left if size is None or size < 0 else min(size, self._left)
        pieces = []
        if self.slow:
            raise TooSlow
        with watch.over(self):
            while left and (piece := self._next(min(left, PIECE))):
                pieces.append(piece)
                left -= len(piece)
        return b"".join(pieces)

    def _next(self, size: int) -> bytes:
        self._since = began = self._clock()
        piece: bytes = self._stream.read(size)
        self._since, self._waited = None, self._waited + self._clock() - began
        self.taken += len(piece)
        self._left = self._left - len(piece) if len(piece) == size else 0  # the end, or the connection's
        if self.slow or self._allowed() < 0:
            self.slow = True
            raise TooSlow
        return piece

    def _allowed(self) -> float:
        return GRACE + self.taken / RATE - self._waited

    def is_late(self) -> bool:
        """Whether it waits now, and has waited too long. Asked from another thread."""
        since = self._since
        return since is not None and self._clock() - since > self._allowed()

    def close(self) -> None:
        """Django's; the web server's ends with the request."""


class Watch:
    """The bodies that are being read, and a thread that looks after them while there are any."""

    def __init__(self) -> None:
        self._lock, self._read, self._runs = threading.Lock(), set[Body](), False

    @contextmanager
    def over(self, body: Body) -> Iterator[None]:
        with self._lock:
            self._read.add(body)
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="late-bodies", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                self._read.discard(body)

    def late(self) -> set[Address]:
        """Who lets us wait too long."""
        with self._lock:
            bodies = [body for body in self._read if body.is_late()]
        for body in bodies:
            body.slow = True
        return {ip_address(body.address) for body in bodies if body.address}

    def _run(self) -> None:
        before: dict[connections.Name, int] = {}
        while True:
            time.sleep(LOOK)
            with self._lock:
                if not self._read:
                    self._runs = False
                    return
            try:
                late = self.late()
                before = connections.end_idle(late, before, int(RATE * LOOK), GRACE) if late else {}
            except Exception:
                log.exception("late bodies can't be looked after")


watch = Watch()
