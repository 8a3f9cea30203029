"""What every answer tells browsers and caches; how long a session lasts."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.checks import run_checks
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client

from batches import objects
from provocative import fleet, wsgi
from provocative.addresses import Address
from tenants import factors, session_store
from tenants.models import Membership, User
from tests import staff
from tests.conftest import Person
from tests.test_engine import Work
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only


def test_djangos_own_check_for_deployment_has_nothing_to_say() -> None:
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    done = subprocess.run(
        command, cwd=settings.BASE_DIR, env=os.environ | {"HTTPS": "1"}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "System check identified no issues (2 silenced).\n"), done.stderr


BEHIND_TLS = """
import django; django.setup()
from django.test import Client
answer = Client().get("/account/login/", secure=True)
cookie = answer.cookies["__Host-csrftoken"]
print(answer.status_code, answer["Strict-Transport-Security"], list(answer.cookies), cookie["secure"], cookie["path"],
      repr(cookie["domain"]))
from django.conf import settings
print(settings.SESSION_COOKIE_NAME, settings.SESSION_COOKIE_SECURE, settings.SESSION_COOKIE_DOMAIN)
"""


def test_cookies_are_of_this_host_alone(transactional_db: None) -> None:
    """With HTTPS=1, which tests run without: so in a process of its own."""
    environ = os.environ | {
        "HTTPS": "1",
        "DJANGO_SETTINGS_MODULE": "provocative.settings",
        "ALLOWED_HOSTS": "testserver",
    }
    done = subprocess.run(
        [sys.executable, "-c", BEHIND_TLS],
        cwd=settings.BASE_DIR,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        "200 max-age=31536000 ['__Host-csrftoken'] True / ''",
        "__Host-sessionid True None",
    ], done.stderr


ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


@pytest.fixture
def member(owner: Person) -> Client:
    user = User.objects.create_user("o@example.com", "x")
    Membership.objects.create(tenant=owner.tenant, user=user, role="owner")
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def answers(owner: Person, member: Client, batch: str) -> dict[str, Any]:
    """Of each kind one."""
    keyed = {"Authorization": f"Bearer {owner.key}"}
    place = f"/t/{owner.tenant.public_id}"
    return {
        "page": member.get(f"{place}/batches"),
        "page of nobody": Client().get("/account/login/"),
        "led to the door": Client().get(f"{place}/batches"),
        "unknown page": member.get(f"{place}/nothing"),
        "api": owner.get(f"/v1/batch/{batch}"),
        "refused": owner.client.get("/v1/batch"),
        "unknown": owner.get("/v1/batch/batch_1"),
        "before it is read": owner.client.post("/v1/limits", b"x", content_type="x/y", CONTENT_LENGTH=str(2**31)),
        "wrong method": owner.client.delete("/v1/limits", headers=keyed),
        "download": owner.get(f"/v1/batch/{batch}/output"),
        "health": Client().get("/healthz"),
        "console": staff.signed_in(staff.member_of("support")).get("/admin/"),
        "wrong host": Client().get("/", headers={"Host": "evil.example"}),
        "static": Client().get("/static/css/base.css"),
    }


def test_every_answer_says_what_browsers_may_do(owner: Person, member: Client, witness: Witness, work: Work) -> None:
    batch = owner.submit([request_line("a")]).json()["id"]
    work()
    found = answers(owner, member, batch)
    assert {each.status_code for each in found.values()} == {200, 302, 400, 401, 404, 405, 413}
    found["static"].close()
    for kind, answer in found.items():
        assert {name: answer.headers.get(name) for name in ALWAYS} == ALWAYS, kind
        policy = answer.headers.get("content-security-policy", "")
        assert "default-src 'none'" in policy and "object-src 'none'" in policy and "unsafe" not in policy, kind
        assert ("no-store" in answer.headers["cache-control"]) != (kind == "static"), kind
        assert "server" not in answer.headers, kind


def aged(client: Client, **ago: int) -> None:
    """Set times in the client's session back by so many seconds."""
    session = client.session
    for name, seconds in ago.items():
        if name == "taken":
            records = session["account_authentication_methods"]
            session["account_authentication_methods"] = [row | {"at": row["at"] - seconds} for row in records]
        else:
            session[name] -= seconds
    session.save()


@pytest.mark.parametrize("times", [{"begun": session_store.LONGEST + 1}, {"seen": session_store.IDLE + 1}])
def test_a_session_ends_by_itself(owner: Person, member: Client, times: dict[str, int]) -> None:
    page = f"/t/{owner.tenant.public_id}/batches"
    less = {name: seconds - 10 for name, seconds in times.items()}
    aged(member, **less)
    assert member.get(page).status_code == 200
    assert member.session["seen"] >= time.time() - 5, "that was somebody"
    aged(member, **dict.fromkeys(times, 11) if "begun" in times else times)
    assert member.get(page).status_code == 302
    assert not Session.objects.exists(), "it is gone, not only refused"


def test_a_page_that_asks_by_itself_keeps_no_session_alive(owner: Person, member: Client) -> None:
    aged(member, seen=3_000)
    rows = f"/t/{owner.tenant.public_id}/batches/rows"
    assert member.get(rows, headers={"HX-Request": "true"}).status_code == 200
    assert member.session["seen"] <= time.time() - 3_000


@pytest.mark.parametrize(
    "times", [{"taken": factors.COUNTS + 1}, {"taken": factors.IDLE + 1, "seen": factors.IDLE + 1}]
)
def test_the_console_wants_the_second_step_again(transactional_db: None, times: dict[str, int]) -> None:
    client = staff.signed_in(staff.member_of("support"))
    aged(client, **{name: min(seconds, factors.IDLE) - 10 for name, seconds in times.items()})
    assert client.get("/admin/").status_code == 200
    aged(client, **times)
    answer = client.get("/admin/")
    assert answer.status_code == 302 and "/admin/login/" in answer["Location"]


def test_who_signs_out_leaves_nothing_in_the_browser(member: Client) -> None:
    answer = member.post("/account/logout/")
    assert answer.headers["clear-site-data"] == '"storage"'
    assert "clear-site-data" not in Client().get("/account/login/").headers


def test_files_are_for_their_own_user() -> None:
    with objects.Writer(objects.fresh_key("inputs")) as writer:
        writer.write(b"a")
    saved = default_storage.save("ready/mode", ContentFile(b"a"))
    modes = {key: os.stat(default_storage.path(key)).st_mode & 0o777 for key in (writer.key, saved)}
    for key in modes:
        default_storage.delete(key)
    assert set(modes.values()) == {0o600}
    assert {folder.stat().st_mode & 0o777 for folder in (settings.HOME, settings.HOME / "files" / "inputs")} == {0o700}


def test_a_home_that_others_may_read_and_pages_that_tell_all_are_warned_of(settings: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    settings.HOME, settings.DEBUG = tmp_path, True
    assert {each.id for each in run_checks()} == {"provocative.W001", "provocative.W002"}


def test_secrets_reach_neither_arguments_nor_reports(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-very-secret"
    for name in wsgi.SECRETS:
        monkeypatch.setenv(name, secret)
    settings.SECRET_KEY = settings.STRIPE_API_KEY = secret
    children = fleet.children(Address("127.0.0.1", 1), Address("127.0.0.1", 2))
    assert children and not [word for child in children for word in child.argv if secret in word]
    seen: dict[str, Any] = {}
    monkeypatch.setattr(wsgi, "_django", lambda environ, start: seen.update(environ) or [])
    wsgi.application({**os.environ, "PATH_INFO": "/"}, lambda *_: None)
    assert seen["PATH_INFO"] == "/" and secret not in seen.values()
