"""The files of deploy/ against the product: what they name exists, stops are given their time, and nginx does as its file says."""

import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from django.conf import settings
from django.core.management import get_commands, load_command_class

from provocative import fleet
from provocative.addresses import Address
from tests.conftest import answers, free_port, until
from tests.test_docs import README, first_cells, section

pytestmark = pytest.mark.sqlite_only
DEPLOY: Path = settings.BASE_DIR / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
OF_OTHERS = {"POSTGRES_PASSWORD", "DATABASE_PASSWORD", "STORAGE_KEY", "STORAGE_SECRET"}  # of the images beside ours
ANYWHERE = Address("127.0.0.1", 1)
OPENSSL = shutil.which("openssl")


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def ours() -> dict[str, Any]:
    """The services of our own image."""
    return {name: one for name, one in compose()["services"].items() if one["image"] == "provocative-batch"}


def is_command(words: list[str]) -> bool:
    """Whether the product has it, with these options."""
    name, *options = words
    load_command_class(get_commands()[name], name).create_parser("manage.py", name).parse_args(options)
    return True


def stops(command: str) -> float:
    """Seconds in which the children of a command may stop, one after the other."""
    children = {
        "web": [fleet.web_server(ANYWHERE)],
        "worker": fleet.workers(),
        "up": fleet.children(ANYWHERE, ANYWHERE),
    }
    return sum(child.grace for child in children[command])


def names(text: str) -> set[str]:
    return set(re.findall(r"^([A-Z][A-Z_]+)=", text, re.MULTILINE))


def known_settings() -> set[str]:
    return first_cells(section(README, "## Settings"))


def test_the_compose_file() -> None:
    services = compose()["services"]
    assert {"database", "storage", "migrate", "web", "worker", "nginx"} <= set(services)
    for name, one in ours().items():
        assert is_command(one["command"]), name
        assert set(one["environment"]) <= known_settings()
        assert one["read_only"] and one["init"] and one["cap_drop"] == ["ALL"]
        if name in ("web", "worker"):
            assert one["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
            assert int(one["stop_grace_period"].removesuffix("s")) > stops(name)
    for one in services.values():
        assert set(one.get("depends_on", ())) <= set(services)
        for source in (volume.split(":")[0] for volume in one.get("volumes", ())):
            there = source in compose()["volumes"] or (DEPLOY / source).exists() or source.endswith("/tls")
            assert there, source
    assert services["worker"]["deploy"]["replicas"] == 2
    wanted = set(re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text()))
    assert wanted == names((DEPLOY / "compose/env.example").read_text())
    assert wanted - OF_OTHERS <= known_settings()


@pytest.mark.parametrize("unit", UNITS, ids=[unit.stem for unit in UNITS])
def test_units(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    told = dict(line.split("=", 1) for line in text.splitlines() if re.match("[A-Z][A-Za-z]+=", line))
    python, *words = told["ExecStart"].split()
    assert (python, words[0]) == ("/srv/provocative/.venv/bin/python", "manage.py") and is_command(words[1:])
    assert told["KillMode"] == "mixed" and int(told["TimeoutStopSec"]) > stops(words[1])
    assert int(told["LimitNOFILE"]) >= 65536 and told["UMask"] == "0077" and told["NoNewPrivileges"] == "yes"
    variables = {pair.split("=")[0] for pair in told["Environment"].split()}
    assert {name for name in variables if not name.startswith("PYTHON")} <= known_settings()
    if analyze := shutil.which("systemd-analyze"):
        copied = tmp_path / unit.name
        copied.write_text(text.replace(python, shutil.which("true") or ""))
        done = subprocess.run([analyze, "verify", copied], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_environment_of_units_is_known() -> None:
    assert names((DEPLOY / "systemd/provocative.env.example").read_text()) <= known_settings()


def test_the_image() -> None:
    """Everything that the service reads is in it, and little else; not as root."""
    text = (DEPLOY / "Containerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for word in line.split()}
    let_in = {line[1:] for line in (settings.BASE_DIR / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert copied == let_in and all((settings.BASE_DIR / name).exists() for name in copied)
    rooms = {path.parent.name for path in settings.BASE_DIR.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert rooms | {"templates", "static", "docs/errors.md"} <= copied
    assert not {"docs", "tests", "var"} & copied
    assert re.search(r"^USER 10001", text, re.MULTILINE) and "STOPSIGNAL SIGTERM" in text
    (command,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    assert is_command(yaml.safe_load(command))


def test_what_is_told_of_commands_is_so() -> None:
    text = "".join(path.read_text() for path in DEPLOY.rglob("*") if path.is_file())
    named = {name for name in re.findall(r"manage\.py ([a-z]+)", text) if name != "py"}
    assert named <= set(get_commands()) and {"web", "worker", "up", "migrate", "doctor"} <= named


# --- nginx ------------------------------------------------------------------------------------------------------------


class Behind(ThreadingHTTPServer):
    """A web server that notes what it is asked, and may hang up once it was."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.hangs_up = False


class Answering(BaseHTTPRequestHandler):
    server: Behind
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        if self.server.hangs_up:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_GET = do_POST = do_PUT = _answer  # noqa: N815 - the library's names

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def proxied(folder: Path, *behind: Behind) -> Iterator[tuple[str, str]]:
    """nginx by our files, but for its ports and folders; its addresses with TLS and in the clear."""
    tls, clear = free_port(), free_port()
    words = f"req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout {folder}/privkey.pem -out {folder}/fullchain.pem"
    subprocess.run([OPENSSL or "", *words.split()], check=True, capture_output=True, timeout=30)
    text = (DEPLOY / "nginx/provocative.conf").read_text()
    for old, new in (
        ("/etc/nginx/provocative-upstreams.conf", f"{folder}/upstreams.conf"), ("/etc/nginx/tls", str(folder)),
        ("/var/log/nginx", str(folder)), ("listen 80;", f"listen 127.0.0.1:{clear};"),
        ("listen 443 ssl", f"listen 127.0.0.1:{tls} ssl"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    (folder / "site.conf").write_text(re.sub(r"\n *listen \[::\].*", "", text))
    upstreams = iter(f"server 127.0.0.1:{one.server_port}" for one in behind)
    text = (DEPLOY / "nginx/upstreams.conf").read_text().replace("fail_timeout=5s", "fail_timeout=1s")
    (folder / "upstreams.conf").write_text(re.sub(r"server 127\.0\.0\.1:\d+", lambda _: next(upstreams), text))
    folders = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}} "
        f"http {{ {folders} access_log off; include {folder}/site.conf; }}"
    )
    command = [NGINX, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=30)
    assert tested.returncode == 0 and "warn" not in tested.stderr, tested.stderr
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until(lambda: answers(f"http://127.0.0.1:{clear}/up"))
        yield f"https://127.0.0.1:{tls}", f"http://127.0.0.1:{clear}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.skipif(
    not (Path(NGINX).exists() and OPENSSL), reason="nginx or openssl is missing (apt install nginx-light)"
)
def test_nginx_takes_bodies_whole_repeats_no_post_and_believes_no_client(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with Behind() as first, Behind() as second:
        for one in (first, second):
            threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        with proxied(tmp_path, first, second) as (tls, clear), _client() as client:
            _believes_no_client(client, tls, clear, first, second)
            _takes_bodies_whole(client, tls, first, second)
            _repeats_no_post(client, tls, first, second)
            first.hangs_up = second.hangs_up = True
            assert client.get(f"{tls}/invitations/the-secret").status_code == 502
        first.shutdown()
        second.shutdown()
    log, errors = (tmp_path / "provocative.log").read_text(), (tmp_path / "error.log").read_text()
    assert "/v1/batch" in log and "the-secret" not in log + errors


def _believes_no_client(client: httpx.Client, tls: str, clear: str, *behind: Behind) -> None:
    liars = ("X-Forwarded-For", "X_Forwarded_For", "X-Real-IP", "Forwarded", "X-Forwarded-Host")
    lies = dict.fromkeys(liars, "6.6.6.6")
    lies |= {"X-Forwarded-Proto": "https", "X_Forwarded_Proto": "https", "Host": "batch.example.com:8443"}
    for address, scheme in ((tls, "https"), (clear, "http")):
        assert client.get(f"{address}/invitations/the-secret?a=the-secret", headers=lies).status_code == 200
        headers = next(one.asked.pop()[2] for one in behind if one.asked and one.asked[-1][1].startswith("/inv"))
        assert "6.6.6.6" not in headers.values() and not [name for name in headers if "_" in name]
        assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == ("127.0.0.1", scheme)
        assert headers["host"] == "batch.example.com:8443"


def _takes_bodies_whole(client: httpx.Client, tls: str, *behind: Behind) -> None:
    def asked() -> int:
        return [path for one in behind for _, path, _ in one.asked].count("/v1/batch")

    head = b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    with _connected(tls) as slow:
        slow.sendall(head % 100 + b"half")
        assert (client.get(f"{tls}/another").status_code, asked()) == (200, 0), "whose body is on its way asks nobody"
        slow.sendall(b"x" * 96)
        assert (b" 200 " in slow.recv(1000), asked()) == (True, 1)
    with _connected(tls) as large:
        large.sendall(head % (111 * 2**20))
        assert (b" 413 " in large.recv(1000), asked()) == (True, 1)


@contextmanager
def _connected(tls: str) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port = int(tls.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 20) as raw, context.wrap_socket(raw) as connection:
        yield connection


def _client() -> httpx.Client:
    """One that takes nginx's own certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return httpx.Client(verify=context, trust_env=False, timeout=20)


def _repeats_no_post(client: httpx.Client, tls: str, first: Behind, second: Behind) -> None:
    def took(method: str, path: str) -> tuple[int, int]:
        """Its status, and how often anybody was asked."""
        first.asked.clear()
        second.asked.clear()
        status = client.request(method, tls + path, content=b"x" if method != "GET" else None).status_code
        return status, Counter(asked[0] for one in (first, second) for asked in one.asked)[method]

    first.hangs_up = second.hangs_up = True
    assert took("POST", "/v1/batch") == (502, 1)
    until(lambda: took("GET", "/wait")[1] == 2, 15)  # who hung up is left out for a second
    until(lambda: took("PUT", "/t/ten_1/uploads") == (502, 1), 15)
    first.hangs_up = second.hangs_up = False
    until(lambda: took("GET", "/v1/batch") == (200, 1), 15)
    first.socket.close()  # nothing listens there any more
    assert [took("POST", "/v1/batch") for _ in range(4)] == [(200, 1)] * 4, "who can't be connected to was sent nothing"
