"""One POST of one event: one total deadline, no redirects, no proxies, nothing of the answer kept but its status."""

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property

import httpx

from batches.webhooks import addresses
from batches.webhooks.addresses import Target, Undeliverable

TOTAL = 15.0  # seconds, from looking the name up to the answer's head
CONNECT = 5.0  # seconds for each address of the name
POLITE_BYTES, POLITE_SECONDS = 64 * 1024, 1.0  # of an answer's body are taken, so that the other side can end in peace
FIXED_HEADERS = {
    "User-Agent": "provocative-batch-webhooks",
    "Content-Type": "application/json",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}
_UNUSED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody; httpx would load all certificates for http, too


@dataclass(frozen=True)
class Message:
    """What is posted where, signed."""

    url: str
    body: bytes
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Outcome:
    """The answer's status, or None; and why it was no success: a code of the delivery log, empty when it was one."""

    status: int | None
    error: str = ""


class Sender:
    """Sends messages. It belongs to one event loop."""

    async def send(self, message: Message, end: float) -> Outcome:
        """Post it, by `end` on the loop's clock. Raises nothing for what a receiver does."""
        async with AsyncExitStack() as opened:
            try:
                async with asyncio.timeout_at(end):
                    answer = await self._open(message, opened)
            except Undeliverable as refused:
                return Outcome(None, str(refused))
            except (OSError, ValueError, httpx.InvalidURL, httpx.TransportError) as error:
                return Outcome(None, _named(error))
            await _take(answer)
            return _outcome(answer)

    async def _open(self, message: Message, opened: AsyncExitStack) -> httpx.Response:
        target = addresses.parse(message.url)
        *others, last = await addresses.resolve(target)
        for address in others:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):  # nothing was sent: the name has other addresses
                return await self._post(message, target, address, opened)
        return await self._post(message, target, last, opened)

    async def _post(self, message: Message, target: Target, address: str, opened: AsyncExitStack) -> httpx.Response:
        """The answer's head. TLS and Host keep the name; the connection goes to the address that was checked."""
        # A client for each: a pooled connection may have been verified for another name at the same address.
        tls = self._tls if target.scheme == "https" else _UNUSED
        client = httpx.AsyncClient(verify=tls, trust_env=False, timeout=httpx.Timeout(None, connect=CONNECT))
        await opened.enter_async_context(client)
        headers = {"Host": target.authority, **FIXED_HEADERS, **message.headers}
        request = client.build_request(
            "POST", target.at(address), content=message.body, headers=headers, extensions={"sni_hostname": target.host}
        )
        answer = await client.send(request, stream=True, follow_redirects=False)
        opened.push_async_callback(answer.aclose)
        return answer

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()


async def _take(answer: httpx.Response) -> None:
    size = 0
    with suppress(httpx.TransportError, TimeoutError):
        async with asyncio.timeout(POLITE_SECONDS):
            async for piece in answer.aiter_raw():
                size += len(piece)
                if size > POLITE_BYTES:
                    return


def _outcome(answer: httpx.Response) -> Outcome:
    if answer.is_success:
        return Outcome(answer.status_code)
    return Outcome(answer.status_code, "redirect" if answer.is_redirect else "http_status")


def _named(error: Exception) -> str:
    """The log's code for what stood in the way of an answer."""
    match error:
        case TimeoutError() | httpx.TimeoutException():
            return "timeout"
        case httpx.ConnectError() if any(isinstance(each, ssl.SSLError) for each in _causes(error)):
            return "tls_failed"
        case httpx.RemoteProtocolError():
            return "invalid_response"
        case OSError() | httpx.NetworkError():
            return "connection_failed"
    return "invalid_url"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
