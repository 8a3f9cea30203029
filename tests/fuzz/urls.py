"""Addresses: those of webhooks, which may lead to the public internet alone, and of upstreams, which go in a request.

The input is the URL; what has 4 or 16 bytes is an IP address, too.
"""

import ipaddress
import socket
from contextlib import suppress
from typing import Any
from unittest import mock
from urllib.parse import unquote, urlsplit

import httpx
from django.conf import settings

from batches import upstreams
from batches.core import addresses
from batches.engine import upstream as engine
from batches.webhooks import addresses as webhooks
from tenants.errors import Refused

OPERATORS = [ipaddress.ip_network("10.0.0.0/8")]
SEEDS = (
    "https://example.com/hook", "https://example.com:8443/a?b=c", "http://example.com/", "https://127.0.0.1/", "https://2130706433/",
    "https://0x7f.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://[64:ff9b::7f00:1]/", "https://169.254.169.254/latest",
    "https://user:pass@example.com/", "https://example.com#x", "https://example.com\\@127.0.0.1/", "https://exa%6dple.com/",
    "https://0177.0.0.1/", "https://8.8.8.8/", "https://[2606:4700::1]/", "https://localhost/", "HTTPS://EXAMPLE.COM", "https://a:0/",
    "https://a:99999/", "https://[fe80::1%25eth0]/", "http://10.0.0.7:8000/v1", "https://llm.example.com/v1/", "http://[::1]:8000/v1",
    "http://gpu-1:8000/v1", "http://a b/v1", "http://a\r\nX: y/v1", "http://xn--bcher-kva.example/v1", "http://b\u00fccher/v1", "http://:80/v1",
)  # fmt: skip
TOKENS = (
    b"https://", b"http://", b"/v1", b"@", b"#", b"?", b"\\", b":0", b":65535", b":65536", b"%2e", b"%00", b"[", b"]", b"::", b"::ffff:",
    b"127.0.0.1", b"0x7f", b"0177", b"2130706433", b"169.254.169.254", b"10.0.0.1", b"64:ff9b::", b"2002:", b"localhost", b".", b"..",
    b"\r\n", b"\t", b" ", b"\xe3\x80\x82", b"\xc2\xad", b"\x00", b"\xff", b"xn--", b"example.com", b";", b"//", b"8.8.8.8",
)  # fmt: skip


def seeds() -> dict[str, bytes]:
    packed = (
        "8.8.8.8",
        "127.0.0.1",
        "100.64.0.1",
        "::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "2001:0:a00:1::",
        "ff02::1",
    )
    return {url: url.encode() for url in SEEDS} | {each: ipaddress.ip_address(each).packed for each in packed}


def check(data: bytes) -> None:
    """No address of a webhook leads inside, none of an upstream into the head of a request."""
    if len(data) in (4, 16):
        _address(ipaddress.ip_address(data))
    text = data.decode(errors="surrogateescape")
    for networks in ([], OPERATORS):
        with mock.patch.object(settings, "WEBHOOK_NETWORKS", networks):
            _webhook(text, networks)
    _upstream(text)


def _address(address: Any) -> None:
    if addresses.reachable(str(address)):
        for each in _meant(address):
            assert each.is_global and not each.is_multicast and not each.is_reserved, (address, each)
            assert not (each.is_private or each.is_loopback or each.is_link_local or each.is_unspecified), (
                address,
                each,
            )


def _meant(address: Any) -> list[Any]:
    """The address and those that it may stand for."""
    if address.version == 4:
        return [address]
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in ipaddress.ip_network("64:ff9b::/96"):
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return [each for each in inner if each] or [address]


def _webhook(text: str, networks: list[Any]) -> None:
    try:
        url = webhooks.check(text)
    except Refused:
        return
    target = webhooks.parse(url)
    assert (
        url == text
        and url.isascii()
        and url.isprintable()
        and not set(target.path) & set(" \\#")
        and "@" not in target.authority
    )
    assert target.scheme == "https" or networks
    assert "?" not in webhooks.origin(url) and 0 < target.port < 65536
    with suppress(httpx.InvalidURL):  # which takes less than we do
        other = httpx.URL(target.at("192.0.2.1"))
        assert (other.host, other.port or webhooks.PORTS[other.scheme]) == ("192.0.2.1", target.port)
        named = unquote(httpx.URL(url).raw_host.decode())
        assert named.lower().rstrip(".") == target.host.lower().rstrip(".") or ":" in target.host
    with suppress(OSError, ValueError):
        number = ipaddress.ip_address(socket.inet_ntoa(socket.inet_aton(target.host)))
        assert number.is_global or any(number in network for network in networks), (url, number)


def _upstream(text: str) -> None:
    try:
        url = upstreams.address(text)
    except ValueError:
        return
    head = engine.Target(url, "/v1/chat/completions", "key").head(7).split(b"\r\n")
    assert len(head) == 10 and not any(head[-2:]) and b"\n" not in b"".join(head), head
    assert head[0] == b"POST " + urlsplit(url).path.encode() + b"/chat/completions HTTP/1.1", head
    assert head[0].count(b" ") == 2 and head[1].startswith(b"Host: ")
