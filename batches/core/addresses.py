"""Which addresses a tenant's URL may lead to: those of the public internet, and what the operator allows. Pure.

Not left to `ipaddress.is_global` alone: it takes multicast and some tunnels for global, and differs between versions
of Python. Source: IANA's IPv4 and IPv6 special-purpose address registries.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]*)?")

Network = IPv4Network | IPv6Network
_NAT64 = IPv6Network("64:ff9b::/96")
_UNICAST = IPv6Network("2000::/3")  # the only part of IPv6 that is routed publicly
_REFUSED = tuple(
    ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments; a cloud's metadata
        "192.88.99.0/24",  # relays of 6to4
        "168.63.129.16/32",  # a cloud's own agent, at a public address
        "224.0.0.0/3",  # multicast and reserved
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3ffe::/16",
        "3fff::/20",  # documentation
    )
)


def reachable(text: str, allowed: Iterable[Network] = ()) -> bool:
    """Whether an address may be connected to. `allowed` are the operator's networks. Raises ValueError."""
    return permitted(text, allowed) or _public(unwrapped(ip_address(text)))


def permitted(text: str, allowed: Iterable[Network]) -> bool:
    """Whether the address lies in one of the operator's networks."""
    address = ip_address(text)
    return any(each in network for network in allowed for each in (address, unwrapped(address)))


def unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for (mapped, NAT64), or itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address


def _public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    return address.is_global and not any(address in network for network in _REFUSED)


def is_authority(text: str) -> bool:
    """Whether it is a host, or an address of IPv6 in brackets, and maybe a port: what all readers of URLs take for the
    same host (`a[b]` is b for one and no host for another)."""
    return _AUTHORITY.fullmatch(text) is not None
