"""Who comes without a key that is known: 60 times a minute from one address, then 429. A good key always passes.

In this process's memory, as the rate of keys is: for so many addresses as were seen last, of IPv6 by network.
"""

from ipaddress import IPv6Address, ip_address, ip_network

from allauth.core.internal.httpkit import get_client_ip
from django.http import HttpRequest

from tenants import throttling
from tenants.buckets import SECOND
from tenants.errors import Refused

LIMIT = 60  # a minute, and at once
ADDRESSES = 10_000
NETWORK = 64  # bits: what one client of IPv6 has for itself

failures = throttling.Throttle(most=ADDRESSES)


def counted(request: HttpRequest, refused: Refused) -> Refused:
    """How this request is refused: so, or 429 after too many others from its address."""
    allowance = failures.take(_network(get_client_ip(request)), LIMIT)
    if allowance.allowed:
        return refused
    seconds = max(1, -(-allowance.retry_after // SECOND))
    message = (
        f"{refused.message} Too many such requests came from your address: check the key, try again in {seconds} s."
    )
    return Refused(429, "too_many_bad_keys", message, headers={"Retry-After": str(seconds)})


def _network(address: str | None) -> str:
    """By whom an address is counted; all that can't be known are one."""
    if address is None or not isinstance(ip_address(address), IPv6Address):
        return address or ""
    return str(ip_network((address.partition("%")[0], NETWORK), strict=False))
