"""Every page of the console and every action, for everybody: docs/console.md says who may, and this is what is so."""

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from django.contrib import admin
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, reverse

from batches.console import draining
from batches.models import Batch
from batches.probing import Probe
from tenants.factors import is_set_up
from tenants.models import Tenant, User
from tests import staff
from tests.rows import url
from tests.test_admin import batch  # noqa: F401 - a row of every model
from tests.test_docs import section, text

pytestmark = pytest.mark.sqlite_only  # who may is decided before a database could make a difference

GROUPS = ("support", "billing", "operations")
YES = "yes"
GLASS = "glass"  # the page of a line's prompt and answer
AT_ONCE = ("test_now…",)  # asks nothing
VERBS = ("see", "add", "change", "delete")


@pytest.fixture(autouse=True)
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No upstream is asked anything."""
    monkeypatch.setattr(draining, "probe_all", lambda rows: [Probe("not asked", 1) for _ in rows])


def documented() -> dict[tuple[str, str], set[str]]:
    """Page and action -> the groups that may."""
    found = {}
    for row in section(text("docs/console.md"), "## Who may do what").splitlines():
        cells = [cell.strip() for cell in row[1:-1].split("|")]
        if len(cells) == 6 and cells[0].startswith("`"):
            page, action, *marks = cells[0].strip("`"), cells[2].strip("`"), *cells[3:]
            assert set(marks) <= {YES, ""}, row
            found[page, action] = {group for group, mark in zip(GROUPS, marks, strict=True) if mark == YES}
    return found


def page_of(model: Any) -> str:
    return str(model._meta.label_lower).replace(".", "/")


def everything() -> Iterator[tuple[Any, str]]:
    """Every page, and what somebody may do there who may everything."""
    root = staff.signed_in(User.objects.create_superuser("everything@example.com"))
    for model in admin.site._registry:
        for verb in VERBS:
            if may(root, model, verb):
                yield model, verb
        if model is Batch:
            yield model, GLASS
        for action in actions(model):
            assert may(root, model, action), f"{model}: {action}"
            yield model, action


def actions(model: Any) -> list[str]:
    """Told from the pages by their …"""
    offered: Any = admin.site._registry[model].actions or ()
    return [f"{action.__name__}…" for action in offered]


def may(client: Client, model: Any, action: str) -> bool:
    """Whether they are let in to it; every other answer than a plain yes or no is a defect."""
    row = model._default_manager.values_list("pk", flat=True).last()
    match action:
        case "see":
            pages = [url(model, "changelist"), url(model, "change", row), url(model, "history", row)]
            lets_in = {client.get(page).status_code in (200, 302) for page in pages}
        case "add":
            lets_in = {answer_of(client, method, url(model, "add")) for method in ("get", "post")}
        case "change":
            lets_in = {answer_of(client, "post", url(model, "change", row))}
        case "delete":
            lets_in = {answer_of(client, "get", url(model, "delete", row))}
        case "glass":
            lets_in = {answer_of(client, method, glass(row)) for method in ("get", "post")}
        case _:
            data = {"action": action[:-1], "_selected_action": [row]}
            answer = client.post(url(model, "changelist"), data, follow=True)
            lets_in = {b'name="confirmed"' in answer.content or (action in AT_ONCE and b"not asked" in answer.content)}
    assert len(lets_in) == 1, f"{model}: {action}"
    return lets_in.pop()


def answer_of(client: Client, method: str, page: str) -> bool:
    status = getattr(client, method)(page).status_code
    assert status in (200, 302, 403), f"{method} {page}: {status}"
    return bool(status != 403)


def test_what_each_group_may_is_what_is_written(batch: Batch) -> None:  # noqa: F811
    clients = {group: staff.signed_in(staff.member_of(group, email=f"{group}@example.com")) for group in GROUPS}
    there = list(everything())
    is_so = {
        (page_of(model), action): {group for group, client in clients.items() if may(client, model, action)}
        for model, action in there
    }
    assert documented() == is_so
    assert len(is_so) > 65


def test_nobody_else_comes_in(batch: Batch) -> None:  # noqa: F811
    """Who is not signed in, a tenant's owner, staff without a second step: to the door. Staff of no group: no page."""
    ada = User.objects.get(email="ada@example.com")
    hasty = Client()
    hasty.force_login(staff.member_of(*GROUPS, email="hasty@example.com"))
    outside = {"nobody": Client(), "a tenant's owner": staff.signed_in(ada), "no second step": hasty}
    idle = staff.signed_in(staff.member_of(email="idle@example.com"))
    models = {page_of(model): model for model in admin.site._registry}
    for page_name, action in documented():
        model = models[page_name]
        for who, client in outside.items():
            for method, page, data in requests(model, action):
                answer = getattr(client, method)(page, data)
                assert answer.status_code == 302 and answer["Location"].startswith("/admin/login/"), (who, page)
        for method, page, data in requests(model, action):
            assert getattr(idle, method)(page, data).status_code == 403, page


def glass(row: Any) -> str:
    return reverse("admin:batches_batch_glass", args=[row])


def requests(model: Any, action: str) -> list[tuple[str, str, dict[str, Any]]]:
    row = model._default_manager.values_list("pk", flat=True).last()
    match action:
        case "see":
            return [
                ("get", url(model, name, *[row][: name != "changelist"]), {})
                for name in ("changelist", "change", "history")
            ]
        case "add":
            return [("get", url(model, "add"), {}), ("post", url(model, "add"), {})]
        case "glass":
            return [("get", glass(row), {}), ("post", glass(row), {"line": "1", "reason": "a long enough reason"})]
        case "change" | "delete":
            return [("post", url(model, action, row), {"post": "yes"})]
    return [("post", url(model, "changelist"), {"action": action[:-1], "_selected_action": [row], "confirmed": "yes"})]


def test_every_address_of_the_console_is_walked() -> None:
    """Those of a model are of a kind that the matrix knows; the others stand here."""
    models = {str(model._meta).replace(".", "_") for model in admin.site._registry}
    kinds = {f"{model}_{kind}" for model in models for kind in ("changelist", "add", "history", "delete", "change")}
    others = {name for name, _ in addresses(admin.site.get_urls())} - kinds
    assert others == {
        "index", "login", "logout", "password_change", "password_change_done", "auth_user_password_change",
        "home", "batches_batch_glass", "autocomplete", "jsi18n", "view_on_site", "app_list",
    }  # fmt: skip


def addresses(patterns: list[Any]) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            if pattern.name:
                yield pattern.name, str(pattern.pattern)
        else:
            yield from addresses(pattern.url_patterns)


def test_the_door_leads_on(client: Client, transactional_db: None) -> None:
    user = staff.member_of("support")
    client.force_login(user)
    door = reverse("admin:login") + "?next=/admin/batches/batch/"
    assert client.get(door)["Location"] == "/account/"  # to set one up
    assert "Staff need a second step" in client.get("/account/").content.decode()


def test_a_second_step_that_is_set_up_opens_and_that_is_removed_closes(client: Client, transactional_db: None) -> None:
    user = staff.member_of("support", password="a long enough phrase")
    before = Client()
    before.force_login(user)
    door, console = reverse("admin:login"), reverse("admin:index")
    client.post("/account/login/", {"login": user.email, "password": "a long enough phrase"})
    assert client.get(door)["Location"] == "/account/"
    assert client.post("/account/reauthenticate/", {"password": "a long enough phrase"}).status_code == 302
    assert client.get("/account/2fa/totp/activate/").status_code == 200
    code = totp.format_hotp_value(totp.hotp_value(client.session["mfa.totp.secret"], int(time.time()) // 30))
    assert client.post("/account/2fa/totp/activate/", {"code": code}).status_code == 302
    assert client.get(console).status_code == 200
    assert before.get("/account/").status_code == 302  # signed out: nobody asked it for the second step
    other = staff.signed_in(user)
    assert other.get(console).status_code == 200
    assert client.post("/account/2fa/totp/deactivate/").status_code == 302
    assert client.get(console).status_code == 302 and client.get("/account/").status_code == 200
    assert other.get("/account/").status_code == 302  # signed out


def test_one_more_one_less_or_new_codes_end_the_other_sessions(client: Client, transactional_db: None) -> None:
    user = staff.member_of("support")
    key = Authenticator.objects.create(user=user, type="webauthn", data={"name": "a key", "credential": {}})
    totp.TOTP.activate(user, totp.generate_totp_secret())
    codes = RecoveryCodes.activate(user)
    client.force_login(user)
    client.post("/account/2fa/reauthenticate/", {"code": codes.get_unused_codes()[0]})

    def others(page: str, **data: str) -> int:
        other = staff.signed_in(user)
        assert other.get("/account/").status_code == 200
        assert client.post(f"/account/2fa/{page}", data).status_code == 302, page
        assert client.get("/account/").status_code == 200
        return int(other.get("/account/").status_code)

    assert others("recovery-codes/generate/") == 302
    assert others("totp/deactivate/") == 302 and is_set_up(user), "the key is still there"
    assert client.get("/account/2fa/totp/activate/").status_code == 200
    code = totp.format_hotp_value(totp.hotp_value(client.session["mfa.totp.secret"], int(time.time()) // 30))
    assert others("totp/activate/", code=code) == 302
    assert others(f"webauthn/keys/{key.pk}/remove/") == 302
    assert is_set_up(user), "the app is still there"


def test_a_password_alone_reaches_no_second_step(client: Client, transactional_db: None) -> None:
    """Of a session from before: its pages would show the recovery codes, add a key, take away what there is."""
    user = staff.member_of("support", password="a long enough phrase")
    client.force_login(user)
    totp.TOTP.activate(user, totp.generate_totp_secret())
    codes = RecoveryCodes.activate(user)
    answer = client.post("/account/reauthenticate/", {"password": "a long enough phrase"})
    assert "a password alone is not enough" in answer.content.decode()
    for page in ("recovery-codes/", "recovery-codes/download/", "webauthn/add/", "totp/deactivate/"):
        answer = client.get(f"/account/2fa/{page}")
        assert answer.status_code == 302 and "reauthenticate" in answer["Location"], page
    assert client.post("/account/2fa/totp/deactivate/").status_code == 302 and is_set_up(user)
    assert client.get(reverse("admin:index")).status_code == 302
    taken = client.post("/account/2fa/reauthenticate/", {"code": codes.get_unused_codes()[0]})
    assert taken.status_code == 302 and client.get(reverse("admin:index")).status_code == 200


def test_a_session_of_a_password_alone_is_asked(client: Client, transactional_db: None) -> None:
    user = staff.member_of("support")
    totp.TOTP.activate(user, totp.generate_totp_secret())
    client.force_login(user)
    page = reverse("admin:batches_batch_changelist")
    door = client.get(page)["Location"]
    assert client.get(door)["Location"] == f"/account/2fa/reauthenticate/?{urlencode({'next': page})}"


def test_the_door_leads_to_addresses_of_ours_alone(transactional_db: None) -> None:
    shift = staff.signed_in(staff.member_of("support"))
    for back in ("x", "account", "//evil.example/", "/\t/evil.example", "https://evil.example/", "javascript:x", "\0"):
        assert shift.get(reverse("admin:login"), {"next": back})["Location"] == "/admin/", back
    assert shift.get(reverse("admin:login"), {"next": "/admin/?q=x"})["Location"] == "/admin/?q=x"


def test_no_row_is_looked_up_for_a_page_outside(transactional_db: None) -> None:
    shift = staff.signed_in(staff.member_of("support"))
    kind = ContentType.objects.get_for_model(Tenant)
    for row in ("1", "%00", "9" * 30):
        with CaptureQueriesContext(connection) as captured:
            assert shift.get(f"/admin/r/{kind.pk}/{row}/").status_code == 404
        assert not [query for query in captured if "tenants_tenant" in query["sql"]]


def test_groups_are_the_documented_ones(transactional_db: None) -> None:
    assert set(Group.objects.values_list("name", flat=True)) == set(GROUPS)
