"""Secrets at rest: no dump shows them, a new SECRET_KEY takes them over, and one that is lost stops nothing else."""

import asyncio
import importlib
import json
import pickle
import time
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from cryptography.fernet import Fernet
from django.apps import apps
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core import signing
from django.core.cache import cache
from django.core.exceptions import FieldError
from django.core.management import call_command
from django.db import connection
from django.db.models import TextField, Value
from django.test import Client

from batches.core.states import Status
from batches.engine import leases
from batches.engine.pump import Pump
from batches.engine.supply import Supply
from batches.models import Batch, Upstream, WebhookDelivery, WebhookEndpoint
from batches.probing import probe
from tenants import factors, resealing, sealed, session_store
from tenants.models import User
from tests.conftest import Person
from tests.hooks import ENDPOINTS, deliver, deliveries, end, endpoint, pass_time, post
from tests.receiver import Receiver, verified
from tests.staff import signed_in
from tests.test_engine import Work
from tests.witness import Witness, request_line

KEY, OLD, NEW = "sk-upstream-of-ours", "old" * 20, "new" * 20
WORD = "a long enough phrase"
APP = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
LOST = "It was sealed under another key."


@pytest.fixture(autouse=True)
def keyed(settings: Any) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = OLD, []


@pytest.fixture
def guarded(witness: Witness) -> Upstream:
    """The witness, which wants a key."""
    witness.configure(required_key=KEY)
    Upstream.objects.update(api_key=KEY)
    return Upstream.objects.get()


@pytest.fixture
def ada(transactional_db: None) -> User:
    """Somebody with an app and recovery codes."""
    user = User.objects.create_user("ada@example.com", WORD)
    totp.TOTP.activate(user, APP)
    RecoveryCodes.activate(user)
    return user


class Bare:
    """A serializer that does nothing."""

    dumps = loads = staticmethod(bytes)


def everything() -> str:
    """All that the database holds."""
    with connection.cursor() as cursor:
        rows: list[Any] = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            rows += cursor.fetchall()
    return "\n".join(str(bytes(part) if isinstance(part, memoryview) else part) for row in rows for part in row)


def signs_in(user: User) -> int:
    """The status of the answer to a right code."""
    cache.clear()  # a code works once
    client = Client()
    client.post("/account/login/", {"login": user.email, "password": WORD})
    code = totp.format_hotp_value(totp.hotp_value(APP, int(time.time()) // 30))
    return int(client.post("/account/2fa/authenticate/", {"code": code}).status_code)


def manage(capsys: Any, verb: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, document and errors of `secrets VERB`."""
    capsys.readouterr()
    status = 0
    try:
        call_command("secrets", verb)
    except SystemExit as left:
        status = int(str(left.code))
    out, err = capsys.readouterr()
    return status, json.loads(out), err


def ran(owner: Person, work: Work) -> Batch:
    answer = owner.submit([request_line("1")])
    work()
    return Batch.objects.get(public_id=answer.json()["id"])


def test_a_dump_of_the_database_has_no_secret(
    owner: Person, guarded: Upstream, receiver: Receiver, ada: User, caplog: pytest.LogCaptureFixture
) -> None:
    first = endpoint(owner, receiver.url)
    second = post(owner, f"/{first['id']}/rotate_secret", {"keep_old_secret_active_for_24_hours": True}).json()
    client = Client()
    client.force_login(User.objects.create_user("grace@example.com", WORD))
    client.post("/account/reauthenticate/", {"password": WORD})
    assert client.get("/account/2fa/totp/activate/").status_code == 200
    begun = client.session["mfa.totp.secret"]  # an app that is being set up
    seeds = [step.data.get("seed") for step in Authenticator.objects.all()]
    salt = "django.contrib.sessions.SessionStore"
    held = [signing.loads(row.session_data, salt=salt, serializer=Bare) for row in Session.objects.all()]
    dump = everything() + str(held) + caplog.text
    secrets = (KEY, first["signing_secret"], second["signing_secret"], APP, begun)
    assert [secret for secret in secrets if secret in dump] == []
    assert all(seed is None or seed.startswith(sealed.PREFIX) for seed in seeds)
    assert owner.tenant.name in dump and "ada@example.com" in dump


def test_a_new_secret_key_takes_everything_over(
    owner: Person, guarded: Upstream, receiver: Receiver, ada: User, work: Work, settings: Any, capsys: Any
) -> None:
    made = endpoint(owner, receiver.url)
    sessions = signed_in(ada)
    assert signs_in(ada) == 302 and manage(capsys, "check")[0] == 0
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD]
    status, told, _ = manage(capsys, "check")
    assert (status, [each["values"] for each in told["under"]]) == (1, [0, 4])  # key, secret, app, codes
    for dropped in (False, True):
        if dropped:
            assert sessions.get("/account/").status_code == 200  # is signed by the new one from now on
            assert manage(capsys, "rotate")[1] == {"sealed": 4, "moved": 4, "current": 0, "left": 0, "unopened": 0}
            assert manage(capsys, "rotate")[1] == {"sealed": 4, "moved": 0, "current": 4, "left": 0, "unopened": 0}
            settings.SECRET_KEY_FALLBACKS = []
            assert manage(capsys, "check")[0] == 0
        assert ran(owner, work).completed == 1
        deliver()
        assert verified(receiver.received[-1], made["signing_secret"])
        assert signs_in(ada) == 302
        assert owner.get(f"{ENDPOINTS}/{made['id']}").json()["signing_secret_hint"] == made["signing_secret_hint"]


def test_what_is_written_while_it_rotates_stays(
    guarded: Upstream, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD]
    reseal = sealed.reseal

    def meanwhile(purpose: str, stored: str) -> str:
        Upstream.objects.update(api_key="another")
        return reseal(purpose, stored)

    monkeypatch.setattr(sealed, "reseal", meanwhile)
    assert resealing.rotate() == {resealing.LEFT: 1}
    assert Upstream.objects.get().api_key.open() == "another"


def test_a_lost_key_rests_its_upstream_until_it_is_back(
    owner: Person, guarded: Upstream, work: Work, settings: Any, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    settings.SECRET_KEY = NEW
    batch = ran(owner, work)
    guarded.refresh_from_db()
    cure = f"under the SECRET_KEY with the id {sealed.key_id(OLD)!r}: add that one to SECRET_KEY_FALLBACKS"
    assert (batch.status, batch.completed + batch.failed) == (Status.IN_PROGRESS, 0)
    assert guarded.cooling_until is not None and cure in caplog.text
    assert cure in (probe(guarded).problem or "")
    staff = signed_in(User.objects.create_superuser("staff@example.com", WORD))
    assert "API key can&#x27;t be opened" in staff.get("/admin/batches/upstream/").content.decode()
    status, told, errors = manage(capsys, "check")
    assert (status, told["unopened"]) == (1, 1) and f"Upstream {guarded.pk} api_key: it was sealed {cure}" in errors
    assert manage(capsys, "rotate")[0] == 1
    settings.SECRET_KEY_FALLBACKS = [OLD]
    work()
    batch.refresh_from_db()
    assert (batch.status, batch.completed) == (Status.COMPLETED, 1)


def test_a_key_that_can_not_be_opened_is_replaced(guarded: Upstream, settings: Any, capsys: Any) -> None:
    settings.SECRET_KEY = NEW
    call_command("upstream", "set", str(guarded.pk), "--api-key", KEY)
    assert Upstream.objects.get().api_key.open() == KEY
    assert KEY not in capsys.readouterr().out


def test_a_lost_webhook_secret_is_a_failed_attempt(
    owner: Person, outsider: Person, receiver: Receiver, settings: Any
) -> None:
    mine = endpoint(owner, receiver.url)
    settings.SECRET_KEY = NEW
    theirs = endpoint(outsider, receiver.url)
    end(owner)
    end(outsider)
    deliver()
    assert [verified(each, theirs["signing_secret"]) for each in receiver.received] == [True]
    [failed] = deliveries(owner, mine)
    assert (failed["status"], failed["attempts"], failed["error"]) == ("pending", 1, "secret_unreadable")
    assert owner.get(f"{ENDPOINTS}/{mine['id']}").json()["signing_secret_hint"] is None
    tried = post(owner, f"/{mine['id']}/test", {"event_type": "batch.completed"})
    assert (tried.status_code, tried.json()["error"]["code"]) == (503, "secret_unreadable")
    settings.SECRET_KEY_FALLBACKS = [OLD]
    pass_time()
    deliver()
    assert verified(receiver.received[-1], mine["signing_secret"])
    assert not WebhookDelivery.objects.filter(state=WebhookDelivery.State.PENDING).exists()


@pytest.mark.sqlite_only
def test_a_lost_second_step_is_said_on_the_page(ada: User, settings: Any) -> None:
    client = Client()
    client.post("/account/login/", {"login": ada.email, "password": WORD})
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD]
    Authenticator.objects.filter(type="totp").update(data={"secret": "sealed.00000000.nonsense"})
    answer = client.post("/account/2fa/authenticate/", {"code": "123456"})
    assert answer.status_code == 503 and b"secrets check" in answer.content


@pytest.mark.sqlite_only
def test_a_sealed_column_can_not_be_searched(guarded: Upstream) -> None:
    rows = Upstream.objects.filter(api_key=guarded.api_key)
    assert rows.exists() and not Upstream.objects.filter(api_key="").exists()
    for lookup in ({"api_key": KEY}, {"api_key__in": [KEY]}, {"api_key__startswith": "s"}, {"api_key__gt": "a"}):
        with pytest.raises(FieldError, match="sealed"):
            Upstream.objects.filter(**lookup).exists()


@pytest.mark.sqlite_only
def test_a_secret_is_shown_by_nothing_and_bound_to_its_purpose(guarded: Upstream) -> None:
    for secret in (guarded.api_key, Upstream(api_key=KEY).api_key):
        assert KEY not in f"{secret} {secret!r} {vars(guarded)}" and KEY.encode() not in pickle.dumps(secret)
        assert secret.matches(pickle.loads(pickle.dumps(secret)))  # noqa: S301 - our own
        assert secret != KEY
        with pytest.raises(TypeError, match="webhook secret"):
            WebhookEndpoint(secret=secret)
    with pytest.raises(sealed.Unopened) as refused:
        sealed.unseal("webhook secret", guarded.api_key.stored)
    assert "another column" in refused.value.cure and KEY not in str(refused.value)
    for damaged in ("sk-plain", guarded.api_key.stored[:-6], "sealed.", "sealed.\udcff.\udcff", "sealed.ä.ö"):
        with pytest.raises(sealed.Unopened):
            sealed.unseal("upstream key", damaged)


def test_what_was_stored_before_is_sealed_and_comes_back(guarded: Upstream, ada: User) -> None:
    columns = importlib.import_module("batches.migrations.0018_sealed")
    steps = importlib.import_module("tenants.migrations.0009_sealed")
    for change in (columns.unseal, steps.unseal):
        change(apps, connection.SchemaEditorClass(connection))
    dump = everything()
    assert KEY in dump and APP in dump
    Upstream.objects.create(model="free", base_url="http://127.0.0.1:1/v1")
    for change in (columns.seal, columns.seal, steps.seal, steps.seal):  # twice: nothing is sealed in another seal
        change(apps, connection.SchemaEditorClass(connection))
    assert sorted(row.api_key.open() for row in Upstream.objects.all()) == ["", KEY]
    assert {found.key for found in resealing.check()} == {0} and signs_in(ada) == 302
    Upstream.objects.update(api_key=Value(KEY, TextField()))
    assert ["migrate" in found.cure for found in resealing.check() if found.key is None] == [True, True]  # both rows


@pytest.mark.sqlite_only
def test_codes_of_before_are_secrets_too(ada: User) -> None:
    data = {"migrated_codes": ["1", "2"], "used_mask": 3}
    assert factors.with_secrets(data, lambda code: code * 2) == {"migrated_codes": ["11", "22"], "used_mask": 3}


@pytest.mark.sqlite_only
def test_a_runner_opens_a_key_once(guarded: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bytes] = []
    decrypt = Fernet._decrypt_data
    monkeypatch.setattr(Fernet, "_decrypt_data", lambda *a, **k: opened.append(b"") or decrypt(*a, **k))  # type: ignore[func-returns-value]

    async def look() -> Supply:
        return Supply(Pump())

    with asyncio.Runner() as loop:
        supply, runner = loop.run(look()), leases.register()
        for _ in range(5):
            supply.refresh(runner, False)
    assert len(opened) == 1


@pytest.mark.sqlite_only
def test_a_stolen_database_has_no_session(owner: Person, ada: User) -> None:
    client = signed_in(ada)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    [stored] = Session.objects.values_list("pk", flat=True)
    assert cookie not in everything() and stored == session_store.digest(cookie)
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = stored
    assert thief.get("/").status_code == 302 and client.get("/", follow=True).status_code == 200
    client.post("/account/logout/")
    assert not Session.objects.exists() and client.get("/").status_code == 302
