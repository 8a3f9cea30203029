"""The pages for people: signing in, and the list of one's own batches."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import strip_tags

from batches import sweeping
from batches.core.states import Status
from batches.models import Batch, File
from batches.web import listing, looks, urls
from tenants.models import AuditEvent, Membership, Tenant, User
from tenants.session_store import SessionStore
from tests.conftest import Person

pytestmark = pytest.mark.sqlite_only  # what is shown is the same on any database

MOST_QUERIES = 6
COPIED = ("tenant", "input_file", "endpoint", "created_at", "deadline", "total")
NAUGHTY = '<script>alert("1")</script>&"\' Ünïcode'


def make_batches(tenant: Tenant, count: int = 1, filename: str = "in.jsonl", **fields: Any) -> list[Batch]:
    now = timezone.now()
    file = File.objects.create(
        tenant=tenant, purpose="batch", filename=filename, bytes=9, lines=10, sha256="0" * 64, storage_key="k",
        created_at=now,
    )  # fmt: skip
    common = {"tenant": tenant, "input_file": file, "endpoint": "/v1/chat/completions", "created_at": now}
    rest = common | {"deadline": now, "total": 10, "model": "m"} | fields
    return [Batch.objects.create(**rest) for _ in range(count)]


def member(*tenants: Tenant, role: str = "reader") -> Client:
    """A browser in which a member of these tenants is signed in."""
    user = User.objects.create_user("member@example.com")
    for tenant in tenants:
        Membership.objects.create(tenant=tenant, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


def shown(client: Client, address: str = "/") -> str:
    answer = client.get(address, follow=True)
    assert answer.status_code == 200
    html = answer.content.decode()
    assert "<script>" not in html and "<style" not in html and " style=" not in html and " onclick=" not in html
    assert "django" not in strip_tags(html).lower()
    return html


def test_strangers_sign_in_first(client: Client, transactional_db: None) -> None:
    answer = client.get("/")
    assert answer.status_code == 302 and answer["Location"] == "/account/login/?next=/"
    assert "<h1>Sign in</h1>" in client.get("/account/login/").content.decode()


def test_signing_in_and_out(owner: Person) -> None:
    user = User.objects.create_user("ada@example.com", "a long enough phrase")
    Membership.objects.create(tenant=owner.tenant, user=user)
    client = Client(enforce_csrf_checks=True)
    form = {"login": "ada@example.com", "password": "wrong", "next": "/"}
    client.get("/account/login/")
    form["csrfmiddlewaretoken"] = client.cookies["csrftoken"].value
    refused = client.post("/account/login/", form)
    assert refused.status_code == 200 and b"not correct" in refused.content
    assert b"ada@example.com" in refused.content and b"wrong" not in refused.content
    signed_in = client.post("/account/login/", form | {"password": "a long enough phrase"})
    assert signed_in.status_code == 302 and signed_in["Location"] == "/"
    assert "ada@example.com" in shown(client)
    assert client.get("/account/logout/").status_code == 200
    token = client.cookies["csrftoken"].value
    assert client.post("/account/logout/", {"csrfmiddlewaretoken": token})["Location"] == "/account/login/"
    assert client.get("/").status_code == 302


def test_an_address_elsewhere_is_not_followed(transactional_db: None) -> None:
    User.objects.create_user("ada@example.com", "a long enough phrase")
    form = {"login": "ada@example.com", "password": "a long enough phrase", "next": "https://evil.example/"}
    assert Client().post("/account/login/", form)["Location"] == "/"


def test_nothing_is_cached_and_only_read(owner: Person) -> None:
    client = member(owner.tenant)
    assert "no-store" in client.get("/")["Cache-Control"]
    assert client.post("/").status_code == 405


def test_own_batches_are_shown_and_foreign_ones_never(owner: Person, outsider: Person) -> None:
    [own], [foreign] = make_batches(owner.tenant), make_batches(outsider.tenant, filename="foreign.jsonl")
    for role in Membership.Role:
        User.objects.all().delete()
        html = shown(member(owner.tenant, role=role))
        assert own.public_id in html
        assert foreign.public_id not in html and "foreign.jsonl" not in html and "outsider" not in html


def test_a_foreign_cursor_is_an_unknown_one(owner: Person, outsider: Person) -> None:
    make_batches(owner.tenant)
    [foreign] = make_batches(outsider.tenant)
    client = member(owner.tenant)
    page = f"/t/{owner.tenant.public_id}/batches"
    answers = [client.get(page, {"after": after}) for after in (foreign.public_id, "batch_unknown", "\x00", "é" * 900)]
    assert {(answer.status_code, answer.content) for answer in answers} == {(404, answers[0].content)}


def test_names_are_escaped(owner: Person) -> None:
    Tenant.objects.filter(pk=owner.tenant.pk).update(name=NAUGHTY, suspended=True)
    make_batches(owner.tenant, filename=NAUGHTY, model=NAUGHTY)
    html = shown(member(owner.tenant))
    assert html.count("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&quot;&#x27; Ünïcode") >= 4


@pytest.mark.parametrize("status", Status)
def test_every_status_has_its_looks(owner: Person, status: Status) -> None:
    make_batches(owner.tenant, status=status, completed=3, failed=2, model=None, cost=1_234_500_000_000)
    html = shown(member(owner.tenant))
    label = {"in_progress": "In progress"}.get(status, status.capitalize())
    assert f'<span class="pill {looks.LOOKS[status]}">{label}</span>' in html
    assert ">1.2345<" in html and "2 failed" in html
    assert ('value="5" max="10"' in html) == (status != Status.FAILED)
    assert ("several" in html) == (status not in looks.UNREAD)


@pytest.mark.parametrize("reason", looks.PAUSES)
def test_a_paused_batch_says_so_and_why(owner: Person, reason: str) -> None:
    make_batches(owner.tenant, status=Status.IN_PROGRESS, paused_reason=reason, completed=3)
    html = shown(member(owner.tenant))
    assert '<span class="pill waiting">Paused</span>' in html and "In progress" not in html
    assert f"3 of 10 · {looks.PAUSES[reason]}" in html


def test_a_thousand_batches_cost_no_more_queries_than_one(owner: Person, outsider: Person) -> None:
    [first], page = make_batches(owner.tenant), f"/t/{owner.tenant.public_id}/batches"
    client = member(owner.tenant, outsider.tenant)
    shown(client, page)
    with CaptureQueriesContext(connection) as alone:
        shown(client, page)
    copies = [Batch(**{name: getattr(first, name) for name in COPIED}, model=f"m{n % 7}") for n in range(999)]
    batches = [first, *Batch.objects.bulk_create(copies)]
    with CaptureQueriesContext(connection) as crowded:
        newest = shown(client, page)
    with CaptureQueriesContext(connection) as further:
        older = shown(client, f"{page}?after={batches[950].public_id}&status=active&q=in&model=m3")
    assert len(alone) == len(crowded) <= MOST_QUERIES and len(further) <= MOST_QUERIES
    assert [batch for batch in batches if f">{batch.public_id}<" in newest] == batches[950:]
    assert f"?after={batches[950].public_id}" in newest
    found = [batch.public_id for batch in batches if f">{batch.public_id}<" in older]
    assert found == [batch.public_id for batch in batches[:950] if batch.model == "m3"][-50:]
    oldest = shown(client, f"{page}?after={batches[50].public_id}")
    assert "Older" not in oldest and "Newest" in oldest and f">{first.public_id}<" in oldest
    assert "no older batches" in shown(client, f"{page}?after={first.public_id}")


def rows(client: Client, page: str) -> str:
    """The address that the page's rows are asked for at again; empty when they are not."""
    found = re.search(r'hx-get="([^"]*/batches/rows[^"]*)" hx-trigger="every (\d+)s"', shown(client, page))
    return f"{unescape(found[1])} {found[2]}" if found else ""


def test_rows_are_asked_for_again_while_they_move(owner: Person, outsider: Person) -> None:
    batches, page = make_batches(owner.tenant, 2, status=Status.IN_PROGRESS), f"/t/{owner.tenant.public_id}/batches"
    make_batches(outsider.tenant)
    client = member(owner.tenant)
    address, seconds = rows(client, page).split()
    assert int(seconds) == 2
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address).status_code == 204, "nothing has changed"
    assert len(captured) == 4, "session, person, seat, and the rows"
    Batch.objects.filter(pk=batches[0].pk).update(completed=7)
    changed = client.get(address).content.decode()
    assert changed.startswith("<tbody") and "7 of 10" in changed and "<html" not in changed
    Batch.objects.update(status=Status.COMPLETED)
    ended = client.get(address).content.decode()
    assert ">Completed<" in ended and 'hx-trigger="every 15s"' in ended, "a new one may come"
    assert not rows(client, f"{page}?after={batches[1].public_id}")
    [new] = make_batches(owner.tenant, filename="new.jsonl")
    assert "new.jsonl" in client.get(address).content.decode()
    Batch.objects.filter(pk=new.pk).update(status=Status.CANCELLED)
    active, _ = rows(client, f"{page}?status=cancelled").split()
    Batch.objects.filter(pk=new.pk).update(status=Status.EXPIRED)
    assert client.get(active)["HX-Refresh"] == "true", "none is left: the page says so"


def test_the_first_batch_replaces_the_lesson(owner: Person) -> None:
    client, page = member(owner.tenant), f"/t/{owner.tenant.public_id}/batches"
    address, _ = rows(client, page).split()
    assert client.get(address).status_code == 204
    make_batches(owner.tenant)
    assert client.get(address)["HX-Refresh"] == "true"


def names(html: str) -> set[str]:
    return set(re.findall(r'<a class="file"[^>]*>([^<]*)</a>', html))


def test_batches_are_found_by_state_model_and_name(owner: Person, outsider: Person) -> None:
    make_batches(outsider.tenant, filename="one-foreign.jsonl")
    those: dict[str, dict[str, Any]] = {
        "one.jsonl": {"status": Status.COMPLETED},
        "one-more.jsonl": {"status": Status.FAILED, "model": None},
        "100%_sure.jsonl": {"status": Status.EXPIRED},
        "two.jsonl": {"status": Status.IN_PROGRESS, "paused_reason": "max_cost_usd", "model": "a&b"},
        "three.jsonl": {"status": Status.CANCELLING},
        "four.jsonl": {"status": Status.CANCELLED},
    }
    for name, fields in those.items():
        make_batches(owner.tenant, filename=name, **fields)
    client, page = member(owner.tenant), f"/t/{owner.tenant.public_id}/batches"
    an_id = Batch.objects.get(input_file__filename="four.jsonl").public_id
    for query, wanted in {
        "": {"one", "one-more", "100%_sure", "two", "three", "four"},
        "status=active": {"two", "three"},
        "status=paused": {"two"},
        "status=completed": {"one"},
        "status=failed": {"one-more"},
        "status=expired": {"100%_sure"},
        "status=cancelled": {"four"},
        "model=a%26b": {"two"},
        "q=ONE": {"one", "one-more"},
        "q=one&status=completed": {"one"},
        "q=%25_s": {"100%_sure"},
        "q=%25": {"100%_sure"},
        f"q={an_id[:12]}": {"four"},
        f"q={an_id}&status=&model=&after=": {"four"},
        "q=one%00": set(),
        "model=%00": set(),
        "q=nothing%3Cb%3E": set(),
        "model=" + "m" * 5000: set(),
    }.items():
        html = shown(client, f"{page}?{query}")
        assert {name.removesuffix(".jsonl") for name in names(html)} == wanted, query
        assert wanted or ("No batch is like that" in html and "Send your first" not in html)
    assert "nothing&lt;b&gt;" in shown(client, f"{page}?q=nothing%3Cb%3E")
    assert client.get(page, {"status": "asleep"}).status_code == 400
    assert client.get(f"{page}/rows", {"status": "asleep"}).status_code == 400


def test_who_finds_nothing_may_look_further_back(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "LOOKED", 3)
    make_batches(owner.tenant, 1, filename="old.jsonl")
    batches = make_batches(owner.tenant, 4)
    client, page = member(owner.tenant), f"/t/{owner.tenant.public_id}/batches"
    html = shown(client, f"{page}?q=old")
    assert not names(html) and "None of the latest 3 batches" in html
    further = f"?q=old&amp;after={batches[1].public_id}"
    assert further in html
    html = shown(client, page + unescape(further))
    assert names(html) == {"old.jsonl"} and "Look further" not in html
    assert "Look further" not in shown(client, page)


def test_an_end_that_is_foreseen_is_said_in_words(owner: Person) -> None:
    soon = timezone.now() + timedelta(minutes=12, seconds=30)
    make_batches(owner.tenant, status=Status.IN_PROGRESS, expected_at=soon)
    html = shown(member(owner.tenant))
    assert f'datetime="{soon:%Y-%m-%dT%H:%M:%S}+00:00"' in html and ">in 12 min</time>" in html


def test_who_has_no_tenant_is_told_what_to_do(owner: Person) -> None:
    make_batches(owner.tenant)
    client = member()
    with CaptureQueriesContext(connection) as captured:
        html = shown(client)
    assert "do not belong to a tenant" in html and "member@example.com" in html and "/admin/" not in html
    assert len(captured) <= MOST_QUERIES


def test_an_operator_without_a_tenant_is_led_to_the_admin(transactional_db: None) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("root@example.com"))
    assert "/admin/tenants/membership/add/" in shown(client)


def test_an_empty_list_teaches_the_command(owner: Person) -> None:
    html = shown(member(owner.tenant))
    assert "curl http://testserver/v1/batch" in html and "file=@batch.jsonl" in html


@pytest.mark.parametrize(
    ("usd", "cents"), [("0", "0.00"), ("5", "5.00"), ("12.5", "12.50"), ("0.000012345", "0.000012345")]
)
def test_costs_have_cents_and_lose_nothing(usd: str, cents: str) -> None:
    assert looks.cents(usd) == cents


def test_the_sweep_drops_sessions_that_have_ended(owner: Person) -> None:
    client = member(owner.tenant)
    ended = SessionStore()
    ended.set_expiry(timezone.now() - timedelta(seconds=1))
    ended.create()
    sweeping.sweep()
    assert Session.objects.count() == 1 and shown(client)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "under 1 s"), (42, "42 s"), (90, "1 min 30 s"), (720, "12 min"), (12_000, "3 h 20 min"), (7200, "2 h"),
     (86_400, "1 d"), (100_000, "1 d 3 h")],
)  # fmt: skip
def test_times_are_as_long_as_they_need_to_be(seconds: float, words: str) -> None:
    assert looks.lasted(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(-5, "any moment"), (3, "any moment"), (44, "in 40 s"), (779, "in 12 min"), (7205, "in 2 h")]
)
def test_forecasts_are_no_finer_than_they_are(seconds: int, words: str) -> None:
    now = timezone.now()
    assert looks.ahead(now + timedelta(seconds=seconds), now) == words


STILL = ("keys/<str:prefix>/revoke", "team/", "billing/")  # what ends something, or pays


def test_a_suspended_tenants_people_do_no_more_than_its_keys(owner: Person) -> None:
    client, row = member(owner.tenant, role="owner"), owner.tenant.keys.get()
    Tenant.objects.update(suspended=True)
    ids = {"batch_id": make_batches(owner.tenant)[0].public_id, "prefix": row.prefix, "line": "1"}
    before = AuditEvent.objects.count()
    refused = set()
    for pattern in urls.urlpatterns:
        path = str(pattern.pattern)
        if path.startswith(STILL) and path not in ("team/invite", "team/resend"):
            continue
        address = re.sub(r"<\w+:(\w+)>", lambda found: ids.get(found[1], "x"), path)
        for method in ("POST", "PUT"):
            answer = client.generic(method, f"/t/{owner.tenant.public_id}/{address}", headers={"Accept": "text/html"})
            if answer.status_code != 405:
                assert answer.status_code in (200, 302, 403, 404), path
                refused.add((path, answer.status_code))
    assert len([path for path, status in refused if status == 403]) >= 14, refused
    assert AuditEvent.objects.count() == before
    assert client.post(f"/t/{owner.tenant.public_id}/keys/{row.prefix}/revoke").status_code == 302
    assert AuditEvent.objects.count() == before + 1


def test_a_strangers_junk_is_not_in_the_log(owner: Person, caplog: pytest.LogCaptureFixture) -> None:
    """Nor the secret of a link that somebody posts to."""
    client = Client(enforce_csrf_checks=True)
    client.post("/invitations/a-secret")
    many = "&".join(f"a{n}=1" for n in range(1001))
    assert Client().post("/account/login/", many, content_type="application/x-www-form-urlencoded").status_code == 400
    client.cookies["sessionid"] = "junk"
    assert client.get("/").status_code == 302
    assert {record.name for record in caplog.records} == {"provocative.requests"}, "a line each, of our own words"
    assert not any(word in caplog.text for word in ("a-secret", "junk", "a1"))
