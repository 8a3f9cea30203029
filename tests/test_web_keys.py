"""API keys on the pages: who may, what is shown once, rotation with overlap, and what a race comes to."""

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tenants import keys
from tenants.errors import Refused
from tenants.models import ApiKey, AuditEvent, Membership
from tests.conftest import Person
from tests.test_resume import at_once
from tests.test_web import NAUGHTY, member, shown

DAY = timedelta(days=1)


def page(person: Person, path: str = "") -> str:
    return f"/t/{person.tenant.public_id}/keys{path}"


def form(**fields: str) -> dict[str, str]:
    return {"name": "nightly", "scopes": "write", "expires": "never", "once": str(uuid4())} | fields


def made(answer: Any) -> str:
    """The key that an answer shows."""
    assert answer.status_code == 200, answer.content
    assert "no-store" in answer["Cache-Control"]
    key: str
    [key] = set(re.findall(r"pk-prov-\w{34}", answer.content.decode()))
    return key


def works(person: Person, key: str, write: bool = False) -> bool:
    """Whether the API takes it."""
    caller = person._replace(key=key)
    answer = caller.post("/v1/batch/batch_unknown/cancel") if write else caller.get("/v1/batch")
    assert answer.status_code in (200, 401, 403, 404)
    return answer.status_code in (200, 404)


@pytest.mark.sqlite_only
def test_a_key_is_shown_once_and_works(owner: Person) -> None:
    client, sent = member(owner.tenant, role="member"), form(name="<b>nightly</b>")
    assert b'name="once"' in client.get(page(owner, "/new")).content
    answer = client.post(page(owner, "/new"), sent)
    key = made(answer)
    assert b"http://testserver/v1/batch" in answer.content and b"&lt;b&gt;nightly" in answer.content
    assert works(owner, key) and works(owner, key, write=True)
    assert key not in shown(client, page(owner)) and key[:16] in shown(client, page(owner))
    assert key not in str(dict(client.session)) and key not in str(client.cookies)
    again = client.post(page(owner, "/new"), sent)
    assert again.status_code == 409 and key not in again.content.decode() and key[:16] in again.content.decode()
    assert ApiKey.objects.filter(name="<b>nightly</b>").count() == 1
    [event] = AuditEvent.objects.all()
    assert (event.actor, event.action, event.target) == ("member@example.com", "key.created", key[:16])
    assert event.details == {"name": "<b>nightly</b>", "scopes": list(keys.SCOPES), "expires": None}


@pytest.mark.sqlite_only
def test_scopes_and_ends_are_what_was_chosen(owner: Person) -> None:
    client = member(owner.tenant, role="owner")
    key = made(client.post(page(owner, "/new"), form(scopes="read", expires="30")))
    assert works(owner, key) and not works(owner, key, write=True)
    row = ApiKey.objects.get(prefix=key[:16])
    assert row.expires_at and timedelta(days=29) < row.expires_at - timezone.now() < timedelta(days=31)
    last_day = timezone.now().date() + 9 * DAY
    key = made(client.post(page(owner, "/new"), form(expires="date", until=last_day.isoformat())))
    row = ApiKey.objects.get(prefix=key[:16])
    assert row.expires_at and row.expires_at.isoformat() == f"{last_day}T23:59:59+00:00"


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": ""}, "1 to 100 printable"),
        ({"name": "x" * 101}, "1 to 100 printable"),
        ({"name": "a\x00b"}, "1 to 100 printable"),
        ({"scopes": "admin"}, "Choose what the key may do"),
        ({"expires": "7"}, "Choose when the key ends"),
        ({"expires": "date"}, "Write the last day"),
        ({"expires": "date", "until": "2020-01-01"}, "from today on"),
        ({"expires": "date", "until": "9999-12-31"}, "within 100 years"),
        ({"expires": "date", "until": "\ud800"}, "Write the last day"),
        ({"once": "7"}, "Load this page anew"),
    ],
)
def test_what_was_typed_stays_beside_what_is_wrong(owner: Person, fields: dict[str, str], says: str) -> None:
    sent = form(name="my name") | fields
    sent = {name: value.encode(errors="replace").decode() for name, value in sent.items()}
    answer = member(owner.tenant, role="member").post(page(owner, "/new"), sent)
    assert answer.status_code == 400 and says in answer.content.decode()
    assert "name" in fields or 'value="my name"' in answer.content.decode()
    assert ApiKey.objects.count() == 1 and not AuditEvent.objects.exists()


@pytest.mark.sqlite_only
def test_readers_see_them_and_can_do_nothing(owner: Person) -> None:
    client, prefix = member(owner.tenant, role="reader"), owner.key[:16]
    html = shown(client, page(owner))
    assert prefix in html and "New key" not in html and "Revoke" not in html and "Rotate" not in html
    for path in ("/new", f"/{prefix}/rotate", f"/{prefix}/revoke"):
        for answer in (client.get(page(owner, path)), client.post(page(owner, path), form(overlap="0"))):
            assert answer.status_code in (403, 405), path
    assert works(owner, owner.key) and ApiKey.objects.count() == 1 and not AuditEvent.objects.exists()


@pytest.mark.sqlite_only
def test_a_foreign_key_is_an_unknown_one(owner: Person, outsider: Person) -> None:
    client = member(owner.tenant, role="owner")
    for prefix in (outsider.key[:16], "pk-prov-00000000", "%00", "é" * 300):
        for answer in (
            client.get(page(owner, f"/{prefix}/rotate")),
            client.post(page(owner, f"/{prefix}/rotate"), {"overlap": "0"}),
            client.post(page(owner, f"/{prefix}/revoke")),
            client.get(page(owner, f"?after={prefix}")),
        ):
            assert answer.status_code == 404
    assert works(outsider, outsider.key)


@pytest.mark.sqlite_only
def test_a_revoked_key_is_refused_by_the_next_request(owner: Person) -> None:
    client, prefix = member(owner.tenant, role="member"), owner.key[:16]
    assert works(owner, owner.key)
    for words in ("refused from now on", "was revoked before"):
        answer = client.post(page(owner, f"/{prefix}/revoke"), follow=True)
        assert words in answer.content.decode()
        assert not works(owner, owner.key)
    assert list(AuditEvent.objects.values_list("action", "target")) == [("key.revoked", prefix)]
    html = shown(client, page(owner))
    assert "Keys that have ended" in html and ">Revoked<" in html and "Make your first key" in html


@pytest.mark.parametrize("hours", [0, 1, 168])
def test_both_keys_work_for_a_while(owner: Person, hours: int) -> None:
    row = ApiKey.objects.get()
    client = member(owner.tenant, role="member")
    assert client.post(page(owner, f"/{row.prefix}/rotate"), {"overlap": "2"}).status_code == 400
    key = made(client.post(page(owner, f"/{row.prefix}/rotate"), {"overlap": str(hours)}))
    assert works(owner, key) and works(owner, owner.key) == (hours > 0)
    former, row = ApiKey.objects.get(pk=row.pk), ApiKey.objects.get(prefix=key[:16])
    assert (row.name, row.scopes, row.expires_at) == (former.name, former.scopes, None)
    assert former.expires_at and abs(former.expires_at - timezone.now() - timedelta(hours=hours)) < timedelta(minutes=5)
    event = AuditEvent.objects.get()
    assert (event.action, event.target, event.details["successor"]) == ("key.rotated", former.prefix, row.prefix)
    again = client.post(page(owner, f"/{former.prefix}/rotate"), {"overlap": "0"}, headers={"Accept": "text/html"})
    assert again.status_code == 409 and ApiKey.objects.count() == 2
    assert "can't be rotated" in shown(client, page(owner, f"/{former.prefix}/rotate"))
    ApiKey.objects.filter(pk=former.pk).update(expires_at=timezone.now())
    assert not works(owner, owner.key) and works(owner, key)


def test_an_end_moves_earlier_alone_and_nothing_is_revived(owner: Person) -> None:
    now = timezone.now()
    soon, _ = keys.create(owner.tenant, expires_at=now + timedelta(hours=2))
    _, key = keys.rotate(soon, "a test", timedelta(hours=24))
    soon.refresh_from_db()
    assert soon.expires_at == now + timedelta(hours=2)
    successor = ApiKey.objects.get(prefix=key[:16])
    assert successor.expires_at and abs(successor.expires_at - now - timedelta(hours=2)) < timedelta(minutes=1)
    expired, _ = keys.create(owner.tenant, expires_at=now - DAY)
    revoked, _ = keys.create(owner.tenant)
    assert keys.revoke_one(ApiKey.objects.get(pk=revoked.pk), "a test")  # `revoked` knows nothing of it
    for row in (expired, revoked):
        before = ApiKey.objects.filter(pk=row.pk).values()[0]
        with pytest.raises(Refused, match="has ended"):
            keys.rotate(row, "a test", timedelta(hours=24))
        assert ApiKey.objects.filter(pk=row.pk).values()[0] == before


def rotations_at_once(owner: Person) -> int:
    """How many keys come of it when four people rotate one at the same moment."""
    row = ApiKey.objects.get()

    def rotate(number: int) -> str:
        try:
            return keys.rotate(row, f"person {number}", DAY)[1]
        except Refused as refused:
            return refused.code

    answers = at_once(4, rotate)
    assert len(set(answers) - {"key_not_rotatable"}) == ApiKey.objects.count() - 1
    return ApiKey.objects.count() - 1


def test_of_rotations_at_once_one_makes_a_key(owner: Person) -> None:
    assert rotations_at_once(owner) == 1
    assert AuditEvent.objects.count() == 1


def test_without_the_compare_and_set_each_would(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_rotatable", lambda former, now: ApiKey.objects.filter(pk=former.pk))
    assert rotations_at_once(owner) == 4


def test_a_form_that_is_sent_twice_at_once_makes_one_key(owner: Person) -> None:
    sent, clients = form(), [member(owner.tenant, role="member")]
    clients.append(Client())
    clients[1].cookies = clients[0].cookies
    answers = at_once(2, lambda number: clients[number].post(page(owner, "/new"), sent).status_code)
    assert sorted(answers) == [200, 409]
    assert ApiKey.objects.filter(name="nightly").count() == 1 and AuditEvent.objects.count() == 1


@pytest.mark.sqlite_only
def test_a_tenant_has_so_many_live_keys(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MAX_LIVE", 2)
    client = member(owner.tenant, role="member")
    made(client.post(page(owner, "/new"), form()))
    answer = client.post(page(owner, "/new"), form())
    assert answer.status_code == 400 and "at most 2 live keys" in answer.content.decode()
    row = ApiKey.objects.order_by("pk")[0]
    rotated = client.post(page(owner, f"/{row.prefix}/rotate"), {"overlap": "24"}, headers={"Accept": "text/html"})
    assert rotated.status_code == 400 and "at most 2 live keys" in rotated.content.decode()
    row.refresh_from_db()
    assert row.expires_at is None and ApiKey.objects.count() == 2 and AuditEvent.objects.count() == 1
    made(client.post(page(owner, f"/{row.prefix}/rotate"), {"overlap": "0"}))


@pytest.mark.sqlite_only
def test_many_keys_cost_no_more_queries(owner: Person) -> None:
    client = member(owner.tenant, role="member")
    shown(client, page(owner))
    with CaptureQueriesContext(connection) as alone:
        shown(client, page(owner))
    past = timezone.now() - DAY
    rows = [
        ApiKey(
            tenant=owner.tenant, name=NAUGHTY, prefix=f"pk-prov-{n:08}", digest=str(n), expires_at=past if n else None
        )
        for n in range(60)
    ]
    ApiKey.objects.bulk_create(rows)
    with CaptureQueriesContext(connection) as crowded:
        html = shown(client, page(owner))
    assert len(alone) == len(crowded) <= 6
    assert html.count("pk-prov-000000") >= 51 and "pk-prov-00000010…" in html and "pk-prov-00000009…" not in html
    older = shown(client, page(owner, "?after=pk-prov-00000010"))
    assert "pk-prov-00000009…" in older and "pk-prov-00000010…" not in older and owner.key[:16] not in older
    assert "no older keys" in shown(client, page(owner, "?after=pk-prov-00000001"))


@pytest.mark.sqlite_only
def test_every_role_sees_no_more_than_prefixes(owner: Person) -> None:
    for role in Membership.Role:
        Membership.objects.all().delete()
        client = Client()
        user = Membership.objects.create(tenant=owner.tenant, user=_user(role), role=role).user
        client.force_login(user)
        html = shown(client, page(owner))
        assert owner.key[:16] in html and owner.key not in html and keys.digest(owner.key) not in html


def _user(role: str) -> Any:
    from tenants.models import User

    return User.objects.create_user(f"{role}@example.com")
