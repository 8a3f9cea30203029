"""Which addresses a tenant's URL may lead to."""

from ipaddress import ip_network

import pytest

from batches.core.addresses import is_authority, permitted, reachable


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.0.1",
        "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.0.192", "192.0.2.1", "192.88.99.1",
        "192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "168.63.129.16", "224.0.0.1", "239.255.255.250",
        "240.0.0.1", "255.255.255.255",
        "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1",
        "2001:0:7f00:1:0:0:f5ff:fffe",  # Teredo
        "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1",
        "fe80::1%lo", "fec0::1", "ff02::1", "ff0e::1",
    ],
)  # fmt: skip
def test_what_is_not_of_the_public_internet_is_refused(address: str) -> None:
    assert not reachable(address)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.215.14", "172.32.0.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"],
)
def test_what_is_of_it_is_taken(address: str) -> None:
    assert reachable(address)


def test_an_operators_networks() -> None:
    own = [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]
    for address in ("10.1.2.3", "fd12::1", "::ffff:10.1.2.3"):
        assert reachable(address, own) and permitted(address, own)
    for address in ("10.2.0.1", "127.0.0.1", "fe80::1", "::ffff:10.2.0.1"):
        assert not reachable(address, own)
    assert reachable("1.1.1.1", own) and not permitted("1.1.1.1", own)


@pytest.mark.parametrize("text", ["", "example.com", "127.1", "0x7f000001", "2130706433", "1.2.3.4/8", "[::1]"])
def test_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        reachable(text)


@pytest.mark.parametrize(
    "host", ["example.com", "a_b-c.example:8443", "127.0.0.1:80", "[::1]", "[2606:4700::1]:443", "xn--a:"]
)
def test_a_host_is_what_every_reader_takes_for_it(host: str) -> None:
    assert is_authority(host)


@pytest.mark.parametrize(
    "host", ["", ":80", "F[v0.a]", "[v0.a]", "[::1", "a>9", "a b", "a@b", "a%25b", "[::1]a", "a:b", "b\u00fccher"]
)
def test_what_one_reads_so_and_another_otherwise_is_none(host: str) -> None:
    assert not is_authority(host)
