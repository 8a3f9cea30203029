"""Where `up` listens: reading --bind, seeing that it is free, and asking whether something answers there."""

import contextlib
import os
import socket
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from django.conf import settings

CURE = "write --bind HOST:PORT, such as 127.0.0.1:8000, 0.0.0.0:8000, [::1]:8000 or :8000 (every interface)."
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound: where such a server is asked
PROBE_SECONDS = 2.0


class BadAddress(ValueError):
    """An address that can't be listened on; the text has the cure."""


@dataclass(frozen=True)
class Address:
    """A host (name or number, without brackets) and a port."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Where this machine reaches it."""
        host = EVERYWHERE.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def parse(bind: str) -> Address:
    """HOST:PORT, :PORT (every interface) or PORT (this machine alone). Raises BadAddress."""
    host, colon, port = bind.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (port.isascii() and port.isdigit() and int(port) < 65536) or (":" in host and not bracketed):
        raise BadAddress(f"{bind!r} is no address: {CURE}")
    every = "0.0.0.0" if colon else "127.0.0.1"  # noqa: S104 - asked for by writing the colon
    return Address(host.strip("[]") or every, int(port))


def claim(address: Address) -> Address:
    """The same address once it is known to be free, as a number and with a port in place of 0. Raises BadAddress."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        host, port = str(found[4][0]), int(found[4][1])
        with socket.create_server((host, port), family=found[0]) as listener:
            return Address(host, listener.getsockname()[1])
    except socket.gaierror as error:
        raise BadAddress(f"{address.host!r} is no host of this machine ({error.strerror}): {CURE}") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise BadAddress(f"{address.host}:{address.port} can't be listened on ({reason}): choose another.") from None


def answers(address: Address, path: str) -> bool:
    """Whether GET `path` is answered 200 there, each step of it within two seconds."""
    parts = urlsplit(address.url)
    connection = HTTPConnection(parts.hostname or "", address.port, timeout=PROBE_SECONDS)
    with contextlib.closing(connection), contextlib.suppress(OSError, HTTPException):
        connection.request("GET", path, headers={"Host": _allowed_host()})
        return connection.getresponse().status == HTTPStatus.OK
    return False


def _allowed_host() -> str:
    """A name that our own web server accepts, whatever address it is asked at."""
    first = next(iter(settings.ALLOWED_HOSTS), "localhost")
    return "localhost" if first == "*" else first.lstrip(".")
