"""The connections of this process, as Linux knows them; and an end for those on which nothing moves.

The web server says of a request from which address it came, not on which connection. So of an address all are ended
that neither sent what they should nor were sent anything for a while: idle ones, too, which costs a client nothing.
"""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address
Name = tuple[object, ...]  # both ends of a connection

SOCKETS = "/proc/self/fd"
TCP_INFO = 11  # getsockopt; include/uapi/linux/tcp.h, struct tcp_info
_SENT, _RECEIVED, _SIZE = 44, 128, 136  # where it has: milliseconds since we sent something; bytes received


def end_idle(addresses: set[Address], before: dict[Name, int], fewer: int, seconds: float) -> dict[Name, int]:
    """Read no more of connections from `addresses` that got us fewer bytes than that since `before`, what the last call
    gave, and that were sent nothing for `seconds`. Whoever reads them sees their end, and can still answer."""
    now = {}
    for connection, name, received, idle in _connections(addresses):
        now[name] = received
        if name in before and received - before[name] < fewer and idle >= seconds:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
    return now


def _connections(addresses: set[Address]) -> Iterator[tuple[socket.socket, Name, int, float]]:
    """Those that came to us: with bytes received, and seconds since something was sent."""
    for number in os.listdir(SOCKETS) if os.path.isdir(SOCKETS) else []:
        # gone, no socket, not connected, no address
        with suppress(OSError, ValueError), socket.socket(fileno=os.dup(int(number))) as found:
            if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
                continue
            peer, own = found.getpeername(), found.getsockname()
            if ip_address(peer[0].partition("%")[0]) in addresses:
                info = found.getsockopt(socket.IPPROTO_TCP, TCP_INFO, _SIZE)
                (sent,), (received,) = struct.unpack_from("I", info, _SENT), struct.unpack_from("Q", info, _RECEIVED)
                yield found, (own, peer), received, sent / 1000
