"""The way of one line to its upstream and back: the only place that knows the HTTP client.

One total deadline an attempt, a cap on the bytes of an answer, no redirects, no proxies from the environment, no
cookies. It retries nothing but a REUSED connection that drops before any byte of an answer: the upstream closed it
before it read the request.
"""

import zlib
from contextvars import ContextVar
from typing import Any

import aiohttp

from batches.core.answers import Answer

ATTEMPT_DEADLINE = 600.0  # seconds, from connecting to the answer's last byte
CONNECT_DEADLINE = 10.0  # seconds
MAX_BODY = 32 * 1024 * 1024  # bytes of an answer, decompressed
REUSED_TRIES = 4  # connections the upstream closed while they were idle
MAX_RETRY_AFTER = 100  # characters of the header that are looked at

_reused: ContextVar[bool] = ContextVar("reused", default=False)


class _Connector(aiohttp.TCPConnector):
    """Tells the caller's task whether the connection it was given had served a request before."""

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        connection = await super().connect(req, traces, timeout)
        protocol: Any = connection.protocol
        _reused.set(getattr(protocol, "provocative_used", False))
        protocol.provocative_used = True
        return connection


class Client:
    """Sends bodies as they are, to any number of upstreams. Make it inside the loop that uses it."""

    def __init__(self, deadline: float = ATTEMPT_DEADLINE) -> None:
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=0, keepalive_timeout=60, ttl_dns_cache=30),
            timeout=aiohttp.ClientTimeout(total=deadline, sock_connect=CONNECT_DEADLINE),
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )

    async def post(self, url: Any, body: bytes, headers: dict[str, str]) -> Answer:
        """The answer, whole; status 0 with an error code when there is none. Never raises for what a server does."""
        for _ in range(REUSED_TRIES):
            answer = await self._attempt(url, body, headers)
            if answer is not None:
                return answer
        return Answer(0, b"", error="upstream_unreachable")

    async def _attempt(self, url: Any, body: bytes, headers: dict[str, str]) -> Answer | None:
        """None: a reused connection dropped before any byte of an answer."""
        answered = False
        _reused.set(False)
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                answered = True
                return await _read(response)
        except aiohttp.ConnectionTimeoutError:
            return Answer(0, b"", error="upstream_unreachable", unsent=True)
        except TimeoutError:
            return Answer(0, b"", error="request_timeout")
        except aiohttp.ClientConnectorError:
            return Answer(0, b"", error="upstream_unreachable", unsent=True)
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError, zlib.error):
            return Answer(0, b"", error="invalid_upstream_response")
        except (aiohttp.ClientError, OSError, ValueError):
            if answered:
                return Answer(0, b"", error="invalid_upstream_response")
            return None if _reused.get() else Answer(0, b"", error="upstream_unreachable")

    async def close(self) -> None:
        await self._session.close()


async def _read(response: aiohttp.ClientResponse) -> Answer:
    length = response.content_length
    encoding = response.headers.get("Content-Encoding", "identity")
    if length is not None and length <= MAX_BODY:
        body = await response.read()
    else:
        body = await _read_capped(response)
    if encoding != "identity":
        body = _inflate(body, encoding)
    retry_after = response.headers.get("Retry-After")
    return Answer(response.status, body, retry_after[:MAX_RETRY_AFTER] if retry_after else None)


async def _read_capped(response: aiohttp.ClientResponse) -> bytes:
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > MAX_BODY:
            response.close()
            raise aiohttp.ClientPayloadError("the answer is too large")
        pieces.append(piece)
    return b"".join(pieces)


def _inflate(body: bytes, encoding: str) -> bytes:
    """Decompress an answer that was compressed unasked; one that grows past the cap is no answer."""
    if encoding not in ("gzip", "deflate"):
        raise aiohttp.ClientPayloadError("unknown content encoding")
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    plain = inflater.decompress(body, MAX_BODY)
    if inflater.unconsumed_tail or not inflater.eof:
        raise aiohttp.ClientPayloadError("the answer is too large or cut off")
    return plain
