"""A tenant's URL reaches nothing that the public internet could not: counted at a server that really listens.

Row 29 of the reliability list. The server is on 127.0.0.1; each way to it is tried, and each guard is taken away once
to see that the way exists.
"""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings as configured
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from batches.core import addresses as core
from batches.models import WebhookEndpoint
from batches.webhooks import addresses, sending
from provocative import environment
from tenants.errors import Refused
from tests.conftest import Person, until
from tests.hooks import deliver, deliveries, end, endpoint, post
from tests.receiver import Receiver, verified

pytestmark = pytest.mark.sqlite_only
NAME = "hooks.example.test"

WAYS = [
    "http://127.0.0.1:{port}/", "http://127.1:{port}/", "http://2130706433:{port}/", "http://0x7f000001:{port}/",
    "http://0x7f.0.0.1:{port}/", "http://017700000001:{port}/", "http://0177.0.0.01:{port}/", "http://0:{port}/",
    "http://0.0.0.0:{port}/", "http://localhost:{port}/", "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/", "http://" + NAME + ":{port}/",
]  # fmt: skip
FOUND = [
    ["10.0.0.1"], ["169.254.169.254"], ["192.168.1.1"], ["100.64.0.1"], ["fe80::1"], ["fd00::1"], ["::1"],
    ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["93.184.215.14", "127.0.0.1"], ["127.0.0.1", "93.184.215.14"], [],
]  # fmt: skip


@pytest.fixture
def inside() -> Iterator[Receiver]:
    """A web server of the operator's, which no tenant may reach."""
    with Receiver() as receiver:
        yield receiver


class Names:
    """The resolver, which gives a name whatever a tenant's own name server would: the next of its answers each time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: list[list[str]] = [["127.0.0.1"]]
        self.asked = 0
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look)

    def _look(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in (NAME, NAME.encode()) or kwargs.get("flags") == socket.AI_NUMERICHOST:
            return self._real(host, port, *args, **kwargs)
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        kinds = [(socket.AF_INET6 if ":" in each else socket.AF_INET, each) for each in found]
        return [(kind, socket.SOCK_STREAM, 6, "", (each, port)) for kind, each in kinds]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


def stored(owner: Person, url: str) -> dict[str, Any]:
    """An endpoint whose URL was not looked at when it was stored."""
    WebhookEndpoint.objects.all().delete()
    made = endpoint(owner, "https://93.184.215.14/")
    WebhookEndpoint.objects.update(url=url)
    return made


def outcome(owner: Person, made: dict[str, Any]) -> str | None:
    end(owner)
    deliver()
    error: str | None = deliveries(owner, made)[0]["error"]
    return error


def test_no_way_leads_inside(owner: Person, inside: Receiver, names: Names) -> None:
    for way in WAYS:
        url = way.format(port=inside.port)
        assert outcome(owner, stored(owner, url)) == "address_not_allowed", way
        assert inside.connections == 0, way
        refused = post(owner, "", {"url": url})
        assert refused.status_code == 400 and refused.json()["error"]["code"] == "invalid_url", way


def test_without_the_guard_each_way_does(
    owner: Person, inside: Receiver, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "reachable", lambda *args: True)
    monkeypatch.setattr(core, "permitted", lambda *args: True)
    for number, way in enumerate(WAYS, 1):
        assert outcome(owner, stored(owner, way.format(port=inside.port))) is None, way
        assert len(inside.received) == number, way


def test_every_address_of_a_name_counts(
    owner: Person, inside: Receiver, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    monkeypatch.setattr(sending.Sender, "_post", lambda *args: sent.append(args))
    for found in FOUND:
        names.answers = [found]
        made = stored(owner, f"https://{NAME}:{inside.port}/")
        assert outcome(owner, made) == ("address_not_allowed" if found else "name_not_resolved"), found
    assert not sent and inside.connections == 0


@pytest.fixture
def rebinding(names: Names, settings: Any) -> Names:
    """The name is what the operator allows when it is looked at, where nobody listens; and then the server."""
    settings.WEBHOOK_NETWORKS = [ip_network("127.0.0.2/32")]
    names.answers = [["127.0.0.2"], ["127.0.0.1"]]
    return names


def test_a_name_that_rebinds(owner: Person, inside: Receiver, rebinding: Names) -> None:
    made = endpoint(owner, f"http://{NAME}:{inside.port}/")
    assert outcome(owner, made) == "connection_failed"
    assert (rebinding.asked, inside.connections) == (1, 0)


def test_a_name_that_rebinds_gets_in_where_it_is_resolved_twice(
    owner: Person, inside: Receiver, rebinding: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses.Target, "at", lambda self, address: f"http://{NAME}:{inside.port}/")
    assert outcome(owner, endpoint(owner, f"http://{NAME}:{inside.port}/")) is None
    assert (rebinding.asked, inside.connections) == (2, 1)


@pytest.fixture
def outside(settings: Any) -> Iterator[Receiver]:
    """A tenant's own server, at 127.0.0.1 as well: the port tells them apart, so this network is allowed."""
    settings.WEBHOOK_NETWORKS = [ip_network("127.0.0.0/8")]
    with Receiver() as receiver:
        yield receiver


def test_a_redirect_is_not_followed(owner: Person, inside: Receiver, outside: Receiver) -> None:
    outside.location, outside.answers = inside.url, [301, 302, 303, 307, 308]
    made = endpoint(owner, outside.url)
    assert [outcome(owner, made) for _ in range(5)] == ["redirect"] * 5
    assert (len(outside.received), inside.connections) == (5, 0)


def test_a_proxy_of_the_environment_is_not_used(
    owner: Person, inside: Receiver, outside: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{inside.port}")
    assert outcome(owner, endpoint(owner, outside.url)) is None
    assert (len(outside.received), inside.connections) == (1, 0)


def test_http_is_for_the_operators_networks_alone(
    owner: Person, names: Names, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    async def answered(self: Any, message: Any, target: Any, address: str, opened: Any) -> httpx.Response:
        sent.append(address)
        return httpx.Response(200, stream=httpx.ByteStream(b""))

    monkeypatch.setattr(sending.Sender, "_post", answered)
    assert post(owner, "", {"url": f"http://{NAME}/"}).json()["error"]["code"] == "invalid_url"
    settings.WEBHOOK_NETWORKS = [ip_network("10.0.0.0/8")]
    made = endpoint(owner, f"http://{NAME}/")
    names.answers = [["93.184.215.14"], ["10.1.1.1"]]
    assert outcome(owner, made) == "https_required"
    assert outcome(owner, made) is None and sent == ["10.1.1.1"]


def test_another_address_is_tried_where_one_does_not_answer(owner: Person, outside: Receiver, names: Names) -> None:
    names.answers = [["127.0.0.2", "127.0.0.1"]]
    assert outcome(owner, endpoint(owner, f"http://{NAME}:{outside.port}/")) is None
    assert len(outside.received) == 1 and outside.received[0].headers["host"] == f"{NAME}:{outside.port}"


def test_a_resolver_that_hangs_holds_up_nobody(
    owner: Person, outside: Receiver, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, look = threading.Event(), names._look

    def hangs(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == NAME.encode() and "flags" not in kwargs:
            release.wait(20)
        return look(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    monkeypatch.setattr(sending, "TOTAL", 0.3)
    hanging, well = endpoint(owner, f"https://{NAME}/"), endpoint(owner, outside.url)
    end(owner)
    deliver()
    assert deliveries(owner, hanging)[0]["error"] == "timeout"
    assert deliveries(owner, well)[0]["status"] == "delivered"
    release.set()
    until(lambda: "webhook-lookup" not in [thread.name for thread in threading.enumerate()])


@given(st.one_of(st.text(max_size=60), st.text(max_size=40).map("https://".__add__), st.integers()))
def test_any_text_is_taken_or_refused(url: Any) -> None:
    with suppress(Refused):
        addresses.parse(addresses.check(url))


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for NAME alone, with its key in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is missing: it makes the certificate of this test")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    words += [
        "-subj",
        f"/CN={NAME}",
        "-addext",
        f"subjectAltName=DNS:{NAME}",
        "-keyout",
        str(path),
        "-out",
        f"{path}.crt",
    ]
    subprocess.run([openssl, *words], check=True, capture_output=True)
    with path.open("a") as file:
        file.write(Path(f"{path}.crt").read_text())
    return path


def test_tls_is_verified_for_the_name_at_the_checked_address(
    certificate: Path, owner: Person, names: Names, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.WEBHOOK_NETWORKS = [ip_network("127.0.0.0/8")]
    context, asked = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    context.load_cert_chain(certificate)
    context.sni_callback = lambda connection, name, _: asked.append(name)
    with Receiver(context) as receiver:
        made = endpoint(owner, f"https://{NAME}:{receiver.port}/x")
        assert outcome(owner, made) == "tls_failed" and not receiver.received, "the system does not trust it"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert outcome(owner, made) is None
        (received,) = receiver.received
        assert verified(received, made["signing_secret"]) and received.headers["host"] == f"{NAME}:{receiver.port}"
        assert asked == [NAME, NAME]
        other = endpoint(owner, f"https://localhost:{receiver.port}/x")
        assert outcome(owner, other) == "tls_failed", "it is another's certificate"


# --- the setting ------------------------------------------------------------------------------------------------------


def test_the_operators_networks_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert configured.WEBHOOK_NETWORKS == []
    monkeypatch.setenv("X", "10.0.0.0/8, fd00::/8,192.168.1.1")
    assert [str(network) for network in environment.networks("X")] == ["10.0.0.0/8", "fd00::/8", "192.168.1.1/32"]
    monkeypatch.setenv("X", "10.0.0.1/8")
    with pytest.raises(ImproperlyConfigured, match=r"X: 10\.0\.0\.1/8 has host bits set"):
        environment.networks("X")
