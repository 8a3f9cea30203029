"""The audit trail: append-only in the database itself, written with what it tells of, read by everybody of a tenant."""

import ast
import csv
import io
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from batches.core import webhooks
from batches.idempotency import Attempt
from batches.models import WebhookEndpoint
from batches.webhooks import endpoints
from billing.models import Customer
from tenants import keys, trail, transfers
from tenants.models import ApiKey, AuditEvent, Membership, Tenant, User
from tenants.web import trail as pages
from tests import staff
from tests.conftest import Person
from tests.service import ROOT
from tests.test_web import NAUGHTY, member, shown

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx"]


def events() -> list[tuple[str, str, str, Any]]:
    """The trail, oldest first."""
    return list(AuditEvent.objects.order_by("pk").values_list("actor", "action", "target", "details"))


def page(person: Person, path: str = "") -> str:
    return f"/t/{person.tenant.public_id}/trail{path}"


def rows_of(answer: Any) -> list[list[str]]:
    assert answer.status_code == 200 and answer["Content-Type"].startswith("text/csv")
    return list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))


def test_the_database_refuses_to_change_or_remove(owner: Person) -> None:
    trail.record(owner.tenant, "a@example.com", "key.created", "pk-prov-00000000")
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        AuditEvent.objects.update(actor="somebody else")
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        AuditEvent.objects.all()._raw_delete("default")
    if connection.vendor == "postgresql":
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("TRUNCATE tenants_auditevent")
    else:
        columns = "id, tenant_id, actor, action, target, details, created_at"
        replacing = f"INSERT OR REPLACE INTO tenants_auditevent ({columns}) SELECT {columns} FROM tenants_auditevent"
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(replacing)
    assert events() == [("a@example.com", "key.created", "pk-prov-00000000", {})]


def test_what_fails_leaves_no_event(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """And without its event nothing is done: one transaction holds both."""
    row, before = ApiKey.objects.get(), ApiKey.objects.values()[0]
    with transaction.atomic():
        keys.issue(owner.tenant, "a test")
        transaction.set_rollback(True)
    assert events() == [] and ApiKey.objects.count() == 1

    def full(*args: Any, **details: Any) -> None:
        raise DatabaseError("the disk is full")

    monkeypatch.setattr(trail, "record", full)
    attempt = Attempt(owner.tenant, None, "POST /")
    for act in (
        lambda: endpoints.create(attempt, "a test", {"url": "https://example.com/", "event_types": "batch.failed"}),
        lambda: keys.issue(owner.tenant, "a test"),
        lambda: keys.rotate(row, "a test", timedelta(0)),
        lambda: keys.revoke_one(row, "a test"),
        lambda: call_command("tenant", "set", "owner", "--suspend"),
        lambda: call_command("user", "create", "new@example.com", "--tenant", "owner"),
    ):
        with pytest.raises((DatabaseError, CommandError)):
            act()
    assert list(ApiKey.objects.values()) == [before]
    assert not WebhookEndpoint.objects.exists() and not Tenant.objects.get().suspended and not User.objects.exists()


@pytest.mark.sqlite_only
def test_every_action_has_its_words() -> None:
    """What is recorded anywhere stands in the list, and keys are made by the room that records it."""
    recorded: set[str] = set()
    made: set[str] = set()
    for path in (
        each for room in ("tenants", "billing", "batches", "provocative") for each in (ROOT / room).rglob("*.py")
    ):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        for call in calls:
            called = ast.unparse(call.func)
            if called == "trail.record":
                named = {each.arg: each.value for each in call.keywords}
                recorded |= written(named.get("action") or call.args[2], calls)
            if called in ("keys.create", "ApiKey.objects.create"):
                made.add(path.relative_to(ROOT).as_posix())
    assert {"key.created", "webhook.changed", "customer.changed"} <= recorded <= set(trail.ACTIONS)
    assert made == {"tenants/keys.py"}
    assert all(len(action) <= 40 for action in trail.ACTIONS)


def written(action: ast.expr, calls: list[ast.Call]) -> set[str]:
    """The action as it is written there; of a variable, all that its module hands to anything and that may be one."""
    if isinstance(action, ast.Constant):
        return {str(action.value)}
    given = (each for call in calls for each in (*call.args, *(named.value for named in call.keywords)))
    texts = (each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str))
    return {text for text in texts if re.fullmatch(r"[a-z]+\.[a-z_]+", text) and text not in webhooks.EVENTS}


@pytest.mark.sqlite_only
def test_what_operators_do_by_commands(owner: Person, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("tenant", "create", "acme")
    call_command("tenant", "set", "owner", "--batch-limit", "3", "--suspend", "--weight", "1")
    call_command("tenant", "set", "owner", "--batch-limit", "3")
    call_command("tenant", "set", "owner", "--batch-limit", "none", "--resume")
    call_command("key", "create", "owner", "--name", "nightly", "--scopes", "batch:read")
    [nightly] = ApiKey.objects.filter(name="nightly")
    call_command("key", "rotate", nightly.prefix, "--overlap-hours", "0")
    call_command("key", "revoke", owner.key)
    call_command("user", "create", "new@example.com", "--tenant", "owner", "--role", "reader")
    call_command("customer", "set", "owner", "--prepaid", "--monthly-limit", "12.50", "--discount", "60")
    call_command("customer", "set", "owner", "--monthly-limit", "none", "--discount", "60")
    rows = events()
    assert {actor for actor, *_ in rows} == {"operator"}
    assert [(action, target) for _, action, target, _ in rows] == [
        ("tenant.created", "acme"),
        ("key.created", ApiKey.objects.get(tenant__name="acme").prefix),
        ("tenant.changed", "owner"),
        ("tenant.changed", "owner"),
        ("key.created", nightly.prefix),
        ("key.rotated", nightly.prefix),
        ("key.revoked", owner.key[:16]),
        ("person.created", "new@example.com"),
        ("member.added", "new@example.com"),
        ("customer.changed", "owner"),
        ("customer.changed", "owner"),
        ("customer.changed", "owner"),
    ]
    assert [row[3] for row in rows[9:]] == [
        {
            "before": {"prepaid": False, "monthly_limit_usd": None},
            "after": {"prepaid": True, "monthly_limit_usd": "12.5"},
        },
        {"before": {"discount_percent": None}, "after": {"discount_percent": 60}},
        {"before": {"monthly_limit_usd": "12.5"}, "after": {"monthly_limit_usd": None}},
    ]
    assert rows[2][3] == {
        "before": {"batch_limit": None, "suspended": False},
        "after": {"batch_limit": 3, "suspended": True},
    }
    assert rows[3][3] == {
        "before": {"batch_limit": 3, "suspended": True},
        "after": {"batch_limit": None, "suspended": False},
    }
    assert rows[8][3] == {"role": "reader"}
    out = capsys.readouterr().out
    successor = ApiKey.objects.get(prefix=rows[5][3]["successor"])
    assert (successor.name, successor.scopes) == ("nightly", "batch:read") and f'"replaces": "{nightly.prefix}"' in out
    with pytest.raises(CommandError, match="another took its place"):
        call_command("key", "rotate", nightly.prefix)
    with pytest.raises(CommandError, match="No live key"):
        call_command("key", "rotate", "pk-prov-00000000")


@pytest.fixture
def root(transactional_db: None) -> Client:
    return staff.signed_in(User.objects.create_superuser("root@example.com"), raise_request_exception=False)


def tenant_form(place: Membership | None = None, /, **fields: str) -> dict[str, str]:
    """What the admin's page of a tenant sends, with one membership in line."""
    inline = {"TOTAL_FORMS": "1", "INITIAL_FORMS": "1" if place else "0", "0-role": "member"}
    if place:
        inline |= {
            "0-id": str(place.pk),
            "0-tenant": str(place.tenant_id),
            "0-user": str(place.user_id),
            "0-role": place.role,
        }
    form = {"name": "owner", "plan": "shared", "weight": "1", "reserved_slots": "0"}
    return form | {f"memberships-{name}": value for name, value in inline.items()} | fields


@pytest.mark.sqlite_only
def test_what_staff_do_in_the_admin(owner: Person, root: Client) -> None:
    ada, bob = (User.objects.create_user(f"{name}@example.com") for name in ("ada", "bob"))
    address = f"/admin/tenants/tenant/{owner.tenant.pk}/change/"
    one = {"memberships-TOTAL_FORMS": "1", "memberships-0-user": str(ada.pk)}
    assert root.post(address, tenant_form(None, batch_limit="7", **one)).status_code == 302
    place = Membership.objects.get()
    changed = tenant_form(place, batch_limit="7", **{"memberships-0-role": "reader"})
    assert root.post(address, changed).status_code == 302
    place.refresh_from_db()
    removed = tenant_form(place, batch_limit="7", **{"memberships-0-DELETE": "on"})
    assert root.post(address, removed).status_code == 302 and not Membership.objects.exists()
    assert {actor for actor, *_ in events()} == {"root@example.com"}
    assert [row[1:] for row in events()] == [
        ("member.added", "ada@example.com", {"role": "member"}),
        ("tenant.changed", "owner", {"before": {"batch_limit": None}, "after": {"batch_limit": 7}}),
        ("member.role_changed", "ada@example.com", {"before": "member", "after": "reader"}),
        ("member.removed", "ada@example.com", {"role": "reader"}),
    ]  # fmt: skip
    count = len(events())
    Customer.objects.create(tenant=owner.tenant)
    form = {"tenant": str(owner.tenant.pk), "user": str(bob.pk), "role": "owner"}
    assert root.post("/admin/tenants/membership/add/", form).status_code == 302
    place = Membership.objects.get()
    assert root.post(f"/admin/tenants/membership/{place.pk}/change/", form | {"role": "reader"}).status_code == 302
    assert (
        root.post(
            f"/admin/tenants/membership/{place.pk}/change/", form | {"role": "reader", "user": str(ada.pk)}
        ).status_code
        == 302
    )
    assert root.post(f"/admin/tenants/membership/{place.pk}/delete/", {"post": "yes"}).status_code == 302
    key = ApiKey.objects.get()
    assert "Revoke: done to 1" in staff.confirmed(root, "/admin/tenants/apikey/", "revoke", key, reason="it leaked")
    assert events()[-1][3] == {"name": key.name, "reason": "it leaked"}
    suspended = {"before": {"suspended": False}, "after": {"suspended": True}, "reason": "no answer"}
    assert "Suspend: done to 1" in staff.confirmed(
        root, "/admin/tenants/tenant/", "suspend", owner.tenant, reason="no answer"
    )
    assert events()[-1][1:] == ("tenant.changed", "owner", suspended)
    assert (
        root.post(
            "/admin/tenants/tenant/add/", tenant_form(None, name="new", **{"memberships-TOTAL_FORMS": "0"})
        ).status_code
        == 302
    )
    customers = {"prepaid": "on", "monthly_limit": ""}
    assert root.post(f"/admin/billing/customer/{owner.tenant.pk}/change/", customers).status_code == 302
    assert (
        root.post("/admin/billing/tenantdiscount/add/", {"tenant": str(owner.tenant.pk), "discount": "70"}).status_code
        == 302
    )
    assert {row[0] for row in events()} == {"root@example.com"}
    assert [row[1:3] for row in events()[count:]] == [
        ("member.added", "bob@example.com"),
        ("member.role_changed", "bob@example.com"),
        ("member.removed", "bob@example.com"),
        ("member.added", "ada@example.com"),
        ("member.removed", "ada@example.com"),
        ("key.revoked", key.prefix),
        ("tenant.changed", "owner"),
        ("tenant.created", "new"),
        ("customer.changed", "owner"),
        ("customer.changed", "owner"),
    ]


@pytest.mark.sqlite_only
def test_everybody_of_the_tenant_reads_it(owner: Person, outsider: Person) -> None:
    trail.record(outsider.tenant, "hidden@example.com", "key.created", "pk-prov-hidden")
    client = member(owner.tenant, role="reader")
    assert "Nothing was changed yet" in shown(client, page(owner))
    trail.record(
        owner.tenant,
        "a@example.com",
        "webhook.changed",
        NAUGHTY,
        before={"url": "https://a/", "enabled": True},
        after={"url": NAUGHTY, "enabled": False},
    )
    trail.record(owner.tenant, "operator", "member.role_changed", "b@example.com", before="reader", after=None)
    trail.record(
        owner.tenant,
        "operator",
        "no.longer.known",
        "x",
        tokens=1_000_000,
        when="2026-11-28T16:41:52+00:00",
        nothing=None,
    )
    trail.record(owner.tenant, "a@example.com", "batch.submitted", "batch_A1")
    trail.record(owner.tenant, "a@example.com", "batch.submitted", "batch_/no")
    html = shown(client, page(owner))
    for words in (
        f'<a href="/t/{owner.tenant.public_id}/batches/batch_A1">', ">batch_/no<",
        "Webhook endpoint changed", "enabled: yes → no", "url: https://a/ → &lt;script&gt;", "reader → none",
        "no.longer.known", "tokens: 1,000,000", "when: 2026-11-28 16:41 UTC",
    ):  # fmt: skip
        assert words in html, words
    assert "hidden@" not in html and "prov-hidden" not in html and "nothing" not in html
    assert html.index("no.longer.known") < html.index("reader → none")
    text = "\n".join(map(str, rows_of(client.get(page(owner, "/csv")))))
    assert "hidden" not in text and "a@example.com" in text


@pytest.mark.sqlite_only
def test_the_trail_is_filtered_and_paged(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "CHUNK", 7)
    for number in range(60):
        actor, action = ("ada+1@example.com", "key.created") if number % 3 else ("operator", "key.revoked")
        trail.record(owner.tenant, actor, action, f"key-{number:02}")
    client = member(owner.tenant)
    shown(client, page(owner))
    with CaptureQueriesContext(connection) as captured:
        first = shown(client, page(owner))
    assert len(captured) <= 5
    assert "key-59" in first and "key-10" in first and "key-09" not in first
    older = first.partition("after=")[2].partition('"')[0]
    second = shown(client, page(owner, f"?after={older}"))
    assert "key-09" in second and "key-00" in second and "key-10" not in second
    oldest = AuditEvent.objects.order_by("pk")[0].pk
    assert "no older events" in shown(client, page(owner, f"?after={oldest}"))
    by_ada = shown(client, page(owner, "?actor=ada%2B1@example.com"))
    assert "key-01" in by_ada and "key-03" not in by_ada and 'value="ada+1@example.com"' in by_ada
    assert "/trail/csv?actor=ada%2B1%40example.com" in by_ada
    assert "Nothing fits" in shown(client, page(owner, "?actor=operator&action=key.created"))
    assert [row[4] for row in rows_of(client.get(page(owner, "/csv")))] == [
        "target",
        *(f"key-{n:02}" for n in range(59, -1, -1)),
    ]
    filtered = rows_of(client.get(page(owner, "/csv?action=key.revoked")))
    assert len(filtered) == 21 and {row[1] for row in filtered[1:]} == {"operator"}


@pytest.mark.sqlite_only
def test_odd_queries_break_nothing(owner: Person) -> None:
    client = member(owner.tenant)
    for query in ("after=x", "after=-1", "after=9999999999999999999", "after=%00", "after=١", "after=1" * 3_000):
        assert client.get(page(owner, f"?{query}")).status_code in (400, 404), query
    for query in ("actor=%00", f"actor={'x' * 9_000}", "action=%ED%A0%80", "action=nothing"):
        assert client.get(page(owner, f"?{query}")).status_code == 200, query
        assert len(rows_of(client.get(page(owner, f"/csv?{query}")))) == 1
    assert client.post(page(owner)).status_code == client.post(page(owner, "/csv")).status_code == 405


@pytest.mark.sqlite_only
def test_no_cell_is_a_formula(owner: Person) -> None:
    for text in FORMULAS:
        trail.record(owner.tenant, text, text, text, before=text, after=text)
    rows = rows_of(member(owner.tenant).get(page(owner, "/csv")))
    assert len(rows) == 1 + len(FORMULAS)
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t"))]
    assert {row[1] for row in rows[1:]} == {f"'{text}" for text in FORMULAS}


@pytest.mark.sqlite_only
def test_a_csv_has_the_place_of_a_download(owner: Person) -> None:
    """Whoever goes away, and whoever asks for the head alone, gives the place back."""
    client = member(owner.tenant)
    trail.record(owner.tenant, "operator", "key.created", "x")
    for _ in range(transfers.DOWNLOADS + 1):
        client.head(page(owner, "/csv")).close()
    held = [client.get(page(owner, "/csv")) for _ in range(transfers.DOWNLOADS)]
    refused = client.get(page(owner, "/csv"))
    assert refused.status_code == 503 and refused["Retry-After"] == "5"
    for answer in held:
        answer.close()
    assert len(rows_of(client.get(page(owner, "/csv")))) == 2


@pytest.mark.sqlite_only
def test_signing_in_is_not_on_it(owner: Person) -> None:
    user = User.objects.create_user("ada@example.com", "a long enough phrase")
    Membership.objects.create(tenant=owner.tenant, user=user)
    before = timezone.now()
    answer = Client().post("/account/login/", {"login": "ada@example.com", "password": "a long enough phrase"})
    assert answer.status_code == 302 and events() == []
    user.refresh_from_db()
    assert user.last_login and user.last_login >= before
