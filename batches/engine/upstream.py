"""The way of one line to its upstream and back: a pool of connections, one total deadline an attempt.

No redirects, no proxies from the environment, no cookies. It retries nothing but a REUSED connection that drops before
any byte of an answer: the upstream closed it before it read the request.
"""

import asyncio
import ssl
from collections.abc import Callable
from functools import cached_property
from urllib.parse import urlsplit

from batches.core.answers import Answer
from batches.engine.wire import Connection, Dropped, Garbled

ATTEMPT_DEADLINE = 600.0  # seconds, from connecting to the answer's last byte
CONNECT_DEADLINE = 10.0  # seconds
IDLE_SECONDS = 60.0  # a pooled connection that was idle for longer is not trusted
UNREACHABLE = Answer(0, b"", error="upstream_unreachable")
UNCONNECTED = Answer(0, b"", error="upstream_unreachable", unsent=True)
INVALID = Answer(0, b"", error="invalid_upstream_response")
TIMED_OUT = Answer(0, b"", error="request_timeout")


class Target:
    """One endpoint of one upstream: where it is, and the head of every request to it."""

    def __init__(self, base_url: str, endpoint: str, api_key: str = "") -> None:
        parts = urlsplit(base_url.rstrip("/") + endpoint.removeprefix("/v1"))
        if parts.hostname is None or not (parts.path + api_key + parts.netloc).isprintable():
            raise ValueError(f"{base_url!r} is not the address of an upstream")
        self.tls = parts.scheme == "https"
        self.host, self.port = parts.hostname, parts.port or (443 if self.tls else 80)
        fields = {
            "Host": parts.netloc.rpartition("@")[2],
            "User-Agent": "provocative-batch",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
        }
        if api_key:
            fields["Authorization"] = f"Bearer {api_key}"
        lines = [f"POST {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self._head = ("\r\n".join(lines) + "\r\nContent-Length: ").encode()

    def head(self, length: int) -> bytes:
        """The request's head for a body of `length` bytes."""
        return b"%b%d\r\n\r\n" % (self._head, length)


class Withheld(Exception):
    """Nothing was sent: while it was being connected, the moment passed in which it might have been."""


class Client:
    """Sends bodies as they are, to any number of upstreams. It belongs to one event loop.

    `may_send` is asked once more where a connection had to be made first: that takes a while, and a process that is
    stopped meanwhile wakes up after its lease.
    """

    def __init__(self, deadline: float = ATTEMPT_DEADLINE, may_send: Callable[[], bool] = lambda: True) -> None:
        self._deadline, self._may_send = deadline, may_send
        self._pools: dict[tuple[str, int, bool], list[tuple[Connection, float]]] = {}

    async def post(self, target: Target, body: bytes) -> Answer:
        """The answer, whole; status 0 with an error code when there is none. Never raises for what a server does.

        Raises Withheld when it may not be sent any more.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._deadline
        head = target.head(len(body))
        pool = self._pools.setdefault((target.host, target.port, target.tls), [])
        while True:
            connection = self._pooled(pool, loop.time())
            try:
                connection = connection or await self._connect(target)
            except (OSError, TimeoutError, ValueError):  # a host that can't be one is a ValueError
                return UNCONNECTED
            if not connection.used and not self._may_send():
                connection.close()
                raise Withheld
            reused = connection.used
            try:
                answer = await connection.exchange(head, body, end - loop.time())
            except Dropped:
                if reused:
                    continue
                return UNREACHABLE
            except Garbled:
                return INVALID
            except TimeoutError:
                return TIMED_OUT
            if connection.idle:
                pool.append((connection, loop.time()))
            return answer

    @staticmethod
    def _pooled(pool: list[tuple[Connection, float]], now: float) -> Connection | None:
        """The connection that was used last, if one is still good."""
        while pool:
            connection, since = pool.pop()
            if connection.idle and now - since < IDLE_SECONDS:
                return connection
            connection.close()
        return None

    async def _connect(self, target: Target) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_DEADLINE):
            _, connection = await loop.create_connection(
                Connection, target.host, target.port, ssl=self._tls if target.tls else None
            )
        return connection

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    def close(self) -> None:
        for pool in self._pools.values():
            for connection, _ in pool:
                connection.close()
        self._pools.clear()
