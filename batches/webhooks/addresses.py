"""Where a tenant's URL leads: checked when it is stored, and again, on the resolved addresses, at each connection.

The service stands where tenants do not: their URLs may reach nothing that the public internet could not, unless the
operator allows it (PROVOCATIVE_WEBHOOK_NETWORKS). What is checked is what is connected to: no name is resolved twice.
"""

import asyncio
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from batches.core import addresses
from tenants.errors import Refused

MAX_URL = 2000  # characters
MAX_ADDRESSES = 4  # of one name are tried
PORTS = {"http": 80, "https": 443}


class Undeliverable(Exception):
    """Nothing may be sent there; the text is a code of the delivery log."""


@dataclass(frozen=True)
class Target:
    """A URL in parts. `authority` is what the Host header says, `path` goes with its query."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str

    def at(self, address: str) -> str:
        """The URL with an address in place of the name."""
        host = f"[{address}]" if ":" in address else address
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse(url: str) -> Target:
    """The parts of a URL that can be sent to. Raises ValueError, with what is wrong."""
    if len(url) > MAX_URL:
        raise ValueError(f"it has more than {MAX_URL} characters")
    if not all("!" <= letter <= "~" for letter in url) or "\\" in url:
        raise ValueError("write it in printable ASCII, others percent-encoded, a name in punycode")
    parts = urlsplit(url)
    port = parts.port  # may raise ValueError
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError("it must begin with https:// and a host")
    if "%" in parts.netloc:
        raise ValueError("a host has no % in it")
    if "@" in parts.netloc:
        raise ValueError("leave out user name and password")
    if "#" in url:
        raise ValueError("leave out the fragment")
    if not addresses.is_authority(parts.netloc):
        raise ValueError("its host has characters that no host has")
    if port == 0:
        raise ValueError("there is no port 0")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname, port or PORTS[parts.scheme], parts.netloc, path)


def origin(url: str) -> str:
    """The URL without its path and query, which may hold a secret."""
    parts = urlsplit(url)
    rest = "/…" if parts.path.strip("/") or parts.query else parts.path
    return f"{parts.scheme}://{parts.netloc}{rest}"


def check(url: object) -> str:
    """A URL that may be stored. Raises Refused 400. Names are resolved at each delivery, not here."""
    try:
        if not isinstance(url, str):
            raise ValueError("send a string")
        target = parse(url)
    except ValueError as error:
        raise _invalid(f"{error}.") from None
    if target.scheme == "http" and not settings.WEBHOOK_NETWORKS:
        raise _invalid("https:// is needed.")
    literal = _literal(target.host)
    if literal and not addresses.reachable(literal, settings.WEBHOOK_NETWORKS):
        raise _invalid("this address is not on the public internet.")
    return url


def _invalid(what: str) -> Refused:
    return Refused(400, "invalid_url", f"url can't be used: {what}", param="url")


def _literal(host: str) -> str | None:
    """The address that a host is, in whichever form the system reads (2130706433, 0x7f.1, ::1); None for a name."""
    try:
        return str(
            socket.getaddrinfo(host.encode(), None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4][0]
        )
    except (OSError, UnicodeError, ValueError):
        return None


async def resolve(target: Target) -> list[str]:
    """The addresses to connect to, all of them checked. Raises Undeliverable."""
    try:
        found = await _lookup(target.host.encode(), target.port)
    except (OSError, UnicodeError, ValueError):
        raise Undeliverable("name_not_resolved") from None
    networks = settings.WEBHOOK_NETWORKS
    if not found:
        raise Undeliverable("name_not_resolved")
    if not all(addresses.reachable(each, networks) for each in found):
        raise Undeliverable("address_not_allowed")
    if target.scheme == "http" and not all(addresses.permitted(each, networks) for each in found):
        raise Undeliverable("https_required")
    return found[:MAX_ADDRESSES]


async def _lookup(host: bytes, port: int) -> list[str]:
    """getaddrinfo in a thread of its own: it can't be interrupted, and nobody may wait for one that hangs."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def settle(addresses: list[str] | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(addresses or [])

    def look() -> None:
        found, failure = None, None
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(str(row[4][0]) for row in rows))
        except (OSError, UnicodeError, ValueError) as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, found, failure)

    threading.Thread(target=look, name="webhook-lookup", daemon=True).start()
    return await answer
