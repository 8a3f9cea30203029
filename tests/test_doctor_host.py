"""`manage.py doctor` of one host: its folder and limits, the storage, how it is reached and what it reaches."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.conf import settings as configured
from django.core.checks import Error

from batches import objects
from batches.models import Upstream
from provocative.doctor import framework, host, network
from provocative.doctor.findings import Level
from tests.conftest import free_port
from tests.fakestripe import FakeStripe
from tests.mailserver import MailServer
from tests.redises import Server as Redis
from tests.test_doctor import PASSWORD, finds, found

pytestmark = pytest.mark.sqlite_only  # no database has a part in it


# --- this host --------------------------------------------------------------------------------------------------------


def test_a_home_that_others_may_look_into(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.HOME = tmp_path / "home"
    settings.HOME.mkdir(mode=0o700)
    (settings.HOME / "gone").symlink_to("nowhere")
    finds("home", Level.OK)
    kept = settings.HOME / "secret_key"
    kept.touch(mode=0o644)
    kept.chmod(0o644)
    finds("home", Level.WARNING, "look into secret_key", "chmod")
    kept.chmod(0o600)
    settings.HOME.chmod(0o750)
    finds("home", Level.WARNING, "look into home")
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    finds("home", Level.ERROR, "this is user 12345", "chown")


class Usage(NamedTuple):
    free: float


class Inodes(NamedTuple):
    f_files: int
    f_favail: int


@pytest.mark.parametrize(("free", "level"), [(50, Level.OK), (3, Level.WARNING), (0.5, Level.ERROR)])
def test_room(free: float, level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(free * 2**30))
    finds("disk", level, f"{free:.1f} GiB")


def test_no_more_files_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(2**40))
    monkeypatch.setattr("os.statvfs", lambda folder: Inodes(10**6, 5))
    finds("disk", Level.ERROR, "5 more files", "inodes")


def test_sqlite_on_a_network_share(db: None, proc: Path, settings: Any) -> None:
    line = "36 35 98:0 / {} rw,noatime master:1 - {} server:/x rw\n"
    (proc / "self/mountinfo").write_text(line.format("/", "ext4") + line.format(settings.HOME.parent, "nfs4"))
    finds("one-machine", Level.ERROR, "nfs4", "local disk")
    (proc / "self/mountinfo").write_text(line.format("/", "ext4") + line.format("/elsewhere", "nfs4"))
    finds("one-machine", Level.OK)


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kernel says: of a host without limits, in a container of a name."""
    for place in ("self", "sys/net/core", "sys/net/ipv4", "cgroup/box"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "sys/net/core/somaxconn").write_text("4096\n")
    (tmp_path / "sys/net/ipv4/ip_local_port_range").write_text("32768\t60999\n")
    (tmp_path / "self/cgroup").write_text("0::/box\n")
    (tmp_path / "cgroup/box/pids.max").write_text("max\n")
    (tmp_path / "cgroup/box/memory.max").write_text(f"{2**32}\n")
    monkeypatch.setattr(host, "PROC", tmp_path)
    monkeypatch.setattr(host, "CGROUP", tmp_path / "cgroup")
    return tmp_path


@pytest.mark.parametrize(
    ("place", "text", "cure"),
    [
        ("sys/net/core/somaxconn", "128", "somaxconn"),
        ("sys/net/ipv4/ip_local_port_range", "60000 61000", "ip_local_port_range"),
        ("cgroup/box/pids.max", "100", "TasksMax"),
        ("cgroup/box/memory.max", str(2**28), "1 GiB"),
    ],
)
def test_what_the_kernel_allows(db: None, proc: Path, place: str, text: str, cure: str) -> None:
    Upstream.objects.create(model="m", base_url="http://m.invalid/v1", max_in_flight=600)
    finds("kernel", Level.OK)
    (proc / place).write_text(text)
    finds("kernel", Level.WARNING, cure)


def test_open_files(db: None, proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a process of the service, where one runs here: its limit may be another than this shell's."""
    (proc / "77").mkdir()
    role = f"A=b\0PROVOCATIVE_HOME={configured.HOME}\0PROVOCATIVE_ROLE=web\0"
    (proc / "77/environ").write_text(role)
    (proc / "78").mkdir()
    (proc / "78/environ").write_text(role.replace("PROVOCATIVE_HOME", "ELSEWHERE"))
    limits = {77: 20_000, 78: 1}
    monkeypatch.setattr(host, "_limit", limits.__getitem__)
    finds("open-files", Level.OK, "20,000")
    limits[77] = 1_024
    finds("open-files", Level.WARNING, "LimitNOFILE")
    Upstream.objects.create(model="m", base_url="http://m.invalid/v1", max_in_flight=2_000)
    finds("open-files", Level.ERROR, "2,200")


# --- the storage ------------------------------------------------------------------------------------------------------


def test_a_storage_that_gives_something_else_or_keeps_what_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    finds("storage", Level.OK, "A folder: 65,536 bytes")
    with monkeypatch.context() as patched:
        patched.setattr(objects, "chunks", lambda key, *_: iter([b"x"]))
        finds("storage", Level.ERROR, "other bytes")
    with monkeypatch.context() as patched:
        patched.setattr(objects, "delete", lambda key: None)
        finds("storage", Level.ERROR, "keeps what is deleted")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(objects.Writer, "write", full)
    monkeypatch.setattr(objects, "delete", full)  # one that refuses the first refuses the second as well: told once
    finds("storage", Level.ERROR, "No space left", "df -h")


# --- how it is reached ------------------------------------------------------------------------------------------------


def reached(settings: Any, hosts: list[str], https: bool = True, origins: tuple[str, ...] = ()) -> list[str]:
    settings.ALLOWED_HOSTS = [*hosts, "localhost", "127.0.0.1", "[::1]"]
    settings.HTTPS, settings.CSRF_TRUSTED_ORIGINS = https, origins
    assert {one.level for one in found("addresses")} <= {Level.OK, Level.WARNING}
    return [one.seen.split(":")[0] for one in found("addresses")]


def test_addresses(settings: Any) -> None:
    well = "Reached by https as batch.example.com."
    assert reached(settings, ["batch.example.com"]) == [well]
    assert reached(settings, ["batch.example.com"], origins=("https://batch.example.com:8443",)) == [well]
    assert reached(settings, [".example.com"], origins=("https://*.example.com",)) == [
        "Reached by https as .example.com."
    ]
    assert reached(settings, ["*"]) == ["ALLOWED_HOSTS takes any name"]
    assert reached(settings, []) == ["It is reached as localhost alone"]
    assert reached(settings, ["batch.example.com"], https=False) == ["HTTPS is 0"]
    told = reached(settings, ["batch.example.com"], origins=("http://batch.example.com", "https://other.example.com"))
    assert len(told) == 2
    assert [one.seen.partition(", which ")[2] for one in found("addresses")] == ["is not https.", "is no name of ours."]


def test_settings_that_django_warns_of(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without HTTPS four of its checks say the same as `addresses`."""
    finds("settings", Level.OK)
    settings.HTTPS = True
    assert {one.seen.partition(":")[0] for one in found("settings")} == framework.IF_HTTPS
    settings.HTTPS, settings.DEBUG = False, True
    assert {one.seen.partition(":")[0] for one in found("settings")} == {"provocative.W001", "security.W018"}
    bad = [Error("It can't work.", id="x.E001")]
    monkeypatch.setattr("django.core.checks.run_checks", lambda **_: bad)
    finds("settings", Level.ERROR, "x.E001", "It can't work.")


# --- what it reaches --------------------------------------------------------------------------------------------------


@pytest.fixture
def mail(settings: Any) -> Iterator[MailServer]:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    with MailServer() as server:
        settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", server.port, 5
        settings.DEFAULT_FROM_EMAIL = "Batch <batch@example.com>"
        yield server


def test_mail(settings: Any, mail: MailServer) -> None:
    finds("mail", Level.OK, f"127.0.0.1:{mail.port}")
    assert mail.mails == []
    (*_, sent) = network.mail_to("op@example.com")()
    assert sent.level is Level.OK and "To: op@example.com" in mail.mails[0]
    settings.DEFAULT_FROM_EMAIL = "batch@localhost"
    finds("mail", Level.WARNING, "EMAIL_FROM")
    settings.EMAIL_PORT = free_port()
    finds("mail", Level.ERROR, "ConnectionRefused", "EMAIL_URL")
    assert [one.level for one in network.mail_to("op@example.com")()] == [Level.ERROR, Level.ERROR]
    settings.EMAIL_BACKEND, settings.EMAIL_FILE_PATH = "django.core.mail.backends.filebased.EmailBackend", "/x/mail"
    finds("mail", Level.WARNING, "/x/mail")


def test_stripe(settings: Any, stripe: FakeStripe) -> None:
    finds("stripe", Level.OK, "test mode")
    settings.STRIPE_WEBHOOK_SECRET = "we_123"
    finds("stripe", Level.ERROR, "whsec_")
    settings.STRIPE_WEBHOOK_SECRET, settings.STRIPE_API_KEY = "", "pk_live_x"
    finds("stripe", Level.ERROR, "sk_")
    settings.STRIPE_API_KEY = "sk_test_of_another"
    finds("stripe", Level.ERROR, "401", "Correct STRIPE_API_KEY")
    settings.STRIPE_API_BASE = f"http://127.0.0.1:{free_port()}"
    finds("stripe", Level.ERROR, "Let this host reach")
    settings.STRIPE_API_KEY = ""
    finds("stripe", Level.OK, "not used")


def test_redis(settings: Any) -> None:
    with Redis() as server:
        settings.REDIS_URL = server.url
        finds("redis", Level.OK, "answers")
    finds("redis", Level.ERROR, "ConnectionError", "Start it")
    settings.REDIS_URL = f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0"
    (one,) = found("redis")
    assert one.level is Level.ERROR and PASSWORD not in f"{one.seen}{one.cure}"
    settings.REDIS_URL = "ridis:/"
    finds("redis", Level.ERROR, "ValueError", "REDIS_URL")
