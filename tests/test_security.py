"""What holds of the whole product, for the tables of docs/security: what is not here, and what nobody may bring in."""

import ast
import base64
import inspect
import json
import logging
import math
import re
import ssl
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from allauth.mfa import app_settings as shipped_mfa
from allauth.mfa.recovery_codes.internal import auth as recovery
from allauth.mfa.totp.internal import auth as totp
from django.conf import global_settings
from django.contrib.auth import hashers, password_validation
from django.contrib.auth.password_validation import CommonPasswordValidator
from django.contrib.sessions.backends.db import SessionStore
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.management.utils import get_random_secret_key
from django.core.signing import TimestampSigner
from django.test import Client
from django.utils import timezone

from provocative import settings as shipped
from provocative.logs import OneLine, OneObject
from provocative.management.commands import up
from provocative.urls import urlpatterns
from tenants import identifiers, passwords
from tenants.models import Membership, User
from tests.conftest import Person
from tests.service import ROOT
from tests.test_docs import ROOMS

pytestmark = pytest.mark.sqlite_only  # none of it is the database's
PHRASE = "a long enough phrase"
SECRET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

# --- what is not here -------------------------------------------------------------------------------------------------

ABSENT = {
    "LDAP": ("ldap", "ldap3"),
    "XML": ("xml", "lxml", "defusedxml", "zeep", "suds"),
    "LaTeX": ("pylatex", "latex"),
    "markup of users": ("markdown", "mistune", "bleach", "nh3", "docutils"),
    "memcache": ("memcache", "pymemcache", "pylibmc"),
    "GraphQL": ("graphene", "strawberry", "ariadne"),
    "WebSocket": ("channels", "websockets", "websocket", "wsproto"),
    "OAuth and OpenID": ("oauthlib", "oauth2_provider", "authlib", "mozilla_django_oidc"),
    "SAML": ("saml2", "onelogin", "djangosaml2"),
    "self-contained tokens": ("jwt", "jose", "jwcrypto", "itsdangerous"),
    "WebRTC": ("aiortc", "aioice"),
    "telephones": ("twilio", "vonage", "phonenumbers"),
    "archives that are unpacked": ("tarfile", "py7zr", "rarfile"),
    "native code": ("ctypes", "cffi"),
}
DANGEROUS = {"eval", "exec", "__import__", "system", "popen", "getoutput", "mark_safe"}
RAW = {"raw", "extra", "RawSQL"}
KNOWN = {
    "provocative/processes.py": {"ctypes"},  # prctl, so that children die with their parent
    "billing/typesetting.py": {"xml"},  # saxutils.escape: nothing is parsed
}
ESCAPED = {"tenants/templatetags/console.py", "tenants/console/trail.py"}  # before it is marked as safe


class Source(NamedTuple):
    place: str
    nodes: list[ast.AST]
    imported: set[str]  # the first part of each name
    called: set[str]  # the last part of each name


@cache
def sources() -> list[Source]:
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return [_source(path) for path in paths if "migrations" not in path.parts]


def _source(path: Path) -> Source:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [each.name for node in nodes if isinstance(node, ast.Import) for each in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    calls = [node.func for node in nodes if isinstance(node, ast.Call)]
    bare = {each.id for each in calls if isinstance(each, ast.Name)}
    called = bare | {each.attr for each in calls if isinstance(each, ast.Attribute)}
    return Source(str(path.relative_to(ROOT)), nodes, {name.partition(".")[0] for name in names}, called)


@pytest.mark.parametrize("what", ABSENT)
def test_it_is_not_here(what: str) -> None:
    used = {name for each in sources() for name in each.imported - KNOWN.get(each.place, set())}
    assert not used & set(ABSENT[what])
    wanted = (ROOT / "requirements.txt").read_text().lower()
    assert not [name for name in ABSENT[what] if re.search(rf"^{name}\b", wanted, re.MULTILINE)]
    patterns: list[Any] = urlpatterns
    routes = " ".join(str(pattern.pattern) for pattern in patterns).lower()
    assert not re.search("graphql|soap|oauth|openid|saml|jwks|websocket|well-known", routes)


def test_nothing_is_evaluated() -> None:
    """No text becomes code, a command line of a shell, a template, or an object of any class."""
    for place, nodes, imported, called in sources():
        bad = called & DANGEROUS
        assert bad <= ({"mark_safe"} if place in ESCAPED else set()), (place, bad)
        assert not imported & {"pickle", "marshal", "shelve", "yaml", "dill", "jinja2"}, place
        assert not [node for node in nodes if isinstance(node, ast.keyword) and node.arg == "shell"], place
        bare = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        assert not bare & {"Template", "compile"}, place


def test_queries_carry_their_values_apart() -> None:
    for each in sources():
        assert not each.called & RAW, each.place


def test_templates_escape_all_there_is() -> None:
    for folder in [ROOT / "templates", *(ROOT / room for room in ROOMS)]:
        for path in folder.rglob("*.html"):
            found = re.findall(r"[\w.]+\s*\|\s*safe\b|autoescape\s+off|safeseq", path.read_text())
            assert set(found) <= {"fieldset.description|safe", "field.field.help_text|safe"}, path  # texts of the code


def test_scripts_are_tame() -> None:
    """Ours put text into pages as text, keep nothing in the browser, listen to no other window."""
    banned = r"\.innerHTML|\.outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|postMessage|__proto__"
    for path in [*(ROOT / "static/js").glob("*.js"), *(ROOT / "static").glob("*.js")]:
        found = re.findall(rf"{banned}|localStorage|sessionStorage|indexedDB|document\.cookie", path.read_text())
        assert found in ([], ["document.cookie"] if path.name == "dashboard.js" else []), path  # light or dark


# --- cryptography -----------------------------------------------------------------------------------------------------

JITTER = {"batches/core/retrying.py", "batches/core/webhooks.py"}  # when to try again is no secret
HASHES = {"sha256", "blake2s", "hmac", "digest", "file_digest"}


def test_only_sound_hashes_and_sources_of_chance() -> None:
    for place, nodes, imported, _ in sources():
        assert "random" not in imported or place in JITTER, place
        for node in nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "hashlib":
                assert node.attr in HASHES, (place, node.attr)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cryptography"):
                names = {each.name for each in node.names}
                assert not names & {"algorithms", "modes", "padding", "rsa", "dsa", "ec", "MD5", "SHA1"}, (place, names)


def test_what_is_not_to_be_guessed_has_128_bits(db: None) -> None:
    drawn = len(identifiers.public_id(""))
    assert drawn * math.log2(len(identifiers.ALPHABET)) >= 128
    store: Any = SessionStore()
    assert len(store._get_new_session_key()) * math.log2(36) >= 128
    assert len(get_random_secret_key()) * math.log2(50) >= 128


def test_passwords_are_stored_slowly() -> None:
    """As Django ships it: PBKDF2 with SHA-256; OWASP asks for 600,000 rounds."""
    assert not hasattr(shipped, "PASSWORD_HASHERS")
    assert hashers.PBKDF2PasswordHasher.algorithm == "pbkdf2_sha256"
    assert hashers.PBKDF2PasswordHasher.iterations >= 600_000


def test_factors_are_drawn_well() -> None:
    """The secret of an app has 160 bits, a recovery code 32, all from the system's generator."""
    for module in (totp, recovery):
        assert "secrets.token" in inspect.getsource(module) and "import random" not in inspect.getsource(module)
    assert len(base64.b32decode(totp.generate_totp_secret())) * 8 == 160
    seed = recovery.RecoveryCodes.generate_seed()
    assert len(seed) >= 40
    assert shipped_mfa.RECOVERY_CODE_DIGITS * math.log2(10) >= 20


def test_signed_values_are_verified() -> None:
    """By HMAC-SHA-256 with SECRET_KEY, for one use each, within their time."""
    signed = signing.dumps({"a": 1}, salt="one use")
    assert signing.loads(signed, salt="one use", max_age=60) == {"a": 1}
    assert TimestampSigner().algorithm == "sha256"
    for bad, salt in ((signed, "another use"), (f"{signed}x", "one use"), (signed.rpartition(":")[0], "one use")):
        with pytest.raises(signing.BadSignature):
            signing.loads(bad, salt=salt)
    with pytest.raises(signing.SignatureExpired):
        signing.loads(signed, salt="one use", max_age=-1)
    assert global_settings.PASSWORD_RESET_TIMEOUT == 3 * 86_400 and not hasattr(shipped, "PASSWORD_RESET_TIMEOUT")


def test_tls_is_verified_everywhere() -> None:
    """No room turns it off; the default context verifies names and takes TLS 1.2 at least."""
    for place, nodes, _, _ in sources():
        for node in nodes:
            if isinstance(node, ast.keyword) and node.arg in ("verify", "check_hostname", "cert_reqs"):
                assert not (isinstance(node.value, ast.Constant) and not node.value.value), place
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("CERT_NONE", "_create_unverified_context", "disable_warnings"), place
    context = ssl.create_default_context()
    assert context.check_hostname and context.verify_mode == ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_it_listens_on_this_machine_alone() -> None:
    """Unless it is told otherwise: a proxy with TLS stands in front."""
    parser = up.Command().create_parser("manage.py", "up")
    assert parser.parse_args([]).bind == "127.0.0.1:8000"


# --- passwords and accounts -------------------------------------------------------------------------------------------


@pytest.fixture
def ada(owner: Person) -> User:
    user = User.objects.create_user("ada@example.com", PHRASE)
    Membership.objects.create(tenant=owner.tenant, user=user, role="owner")
    return user


def sign_in(password: str, client: Client | None = None) -> Any:
    return (client or Client()).post("/account/login/", {"login": "ada@example.com", "password": password})


def change(client: Client, old: str, new: str) -> Any:
    return client.post("/account/password/change/", {"oldpassword": old, "password1": new, "password2": new})


@pytest.mark.parametrize(
    "password",
    ["aaaaaaaaaaaaaaab", "93857203857", " leading and trailing ", "ÄÖÜ 密码 🔑 пароль", "x" * 60 + "Yz!4" * 17],
)
def test_any_composition_is_taken_exactly(ada: User, password: str) -> None:
    """Letters alone, digits alone, blanks at the ends, any script, 128 characters; not one is changed or cut."""
    client = Client()
    client.force_login(ada)
    assert change(client, PHRASE, password).status_code == 302
    assert sign_in(password)["Location"] == "/"
    for other in (password.swapcase(), password.strip(), password[:-1]):
        assert other == password or sign_in(other).status_code == 200


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "password123",
        "football1",
        "ada@example.com",
        "Provocative1",
        "batchadmin!",
        "provocative-batch",
        "tenant2026",
    ],
)
def test_weak_passwords_are_refused(ada: User, password: str) -> None:
    client = Client()
    client.force_login(ada)
    assert change(client, PHRASE, password).status_code == 200
    assert sign_in(PHRASE)["Location"] == "/"


def test_words_of_the_service_may_be_a_part(ada: User) -> None:
    password_validation.validate_password("a batch of nine provocative herons", ada)
    with pytest.raises(ValidationError):
        passwords.OfTheService().validate("AdminTenant7")


def test_the_list_of_known_passwords_is_long_enough() -> None:
    known = CommonPasswordValidator().passwords
    assert len([each for each in known if len(each) >= passwords.LEAST]) >= 3000
    named = [each["NAME"].rpartition(".")[2] for each in shipped.AUTH_PASSWORD_VALIDATORS]
    assert {"CommonPasswordValidator", "MinimumLengthValidator", "OfTheService"} <= set(named)


def test_a_password_is_changed_by_who_knows_it(ada: User) -> None:
    client = Client()
    client.force_login(ada)
    assert change(client, "not mine", "another long phrase").status_code == 200
    assert sign_in(PHRASE)["Location"] == "/"
    assert change(client, PHRASE, "another long phrase").status_code == 302
    assert sign_in("another long phrase")["Location"] == "/"


def test_fields_of_passwords_are_masked_and_help_managers() -> None:
    html = Client().get("/account/login/").content.decode()
    [field] = re.findall(r'<input[^>]*name="password"[^>]*>', html)
    assert 'type="password"' in field and 'autocomplete="current-password"' in field and "maxlength" not in field
    assert "onpaste" not in html and not any("paste" in path.read_text() for path in (ROOT / "static/js").glob("*.js"))


def test_a_password_does_not_grow_old(ada: User) -> None:
    long_ago = timezone.now() - timedelta(days=3650)
    User.objects.update(date_joined=long_ago, last_login=long_ago)
    assert sign_in(PHRASE)["Location"] == "/"


def test_nobody_is_there_by_default(transactional_db: None) -> None:
    assert not User.objects.exists(), "migrations make no account"
    assert not re.search("PASSWORD *=|api_key *=", (ROOT / "provocative/settings.py").read_text())


def test_a_session_ends_with_its_account(ada: User) -> None:
    client = Client()
    client.force_login(ada)
    assert client.get("/account/").status_code == 200
    User.objects.update(is_active=False)
    assert client.get("/account/").status_code == 302 and sign_in(PHRASE).status_code != 200


def test_who_signed_out_is_out_everywhere_that_session_was(ada: User) -> None:
    client, copy = Client(), Client()
    sign_in(PHRASE, client)
    copy.cookies["sessionid"] = client.cookies["sessionid"].value
    assert copy.get("/account/").status_code == 200
    assert "/account/logout/" in copy.get("/account/").content.decode()
    client.post("/account/logout/")
    assert copy.get("/account/").status_code == 302


# --- browsers ---------------------------------------------------------------------------------------------------------

ADDRESSES = (
    "/",
    "/account/login/",
    "/docs/api",
    "/v1/openapi.json",
    "/v1/models",
    "/healthz",
    "/nothing",
    "/v1/nothing",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_answer_is_guarded(owner: Person, address: str) -> None:
    answer = Client().get(address, headers={"Origin": "https://evil.example"})
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]
    assert "base-uri 'none'" in answer["Content-Security-Policy"]
    assert answer["Referrer-Policy"] == "same-origin"
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    if answer.content:
        media = answer["Content-Type"]
        assert media.startswith("application/json") or "charset=utf-8" in media


def test_a_session_opens_no_api(ada: User) -> None:
    """So no other site can use a browser's: the API knows keys in a header alone."""
    client = Client()
    client.force_login(ada)
    assert client.get("/v1/models").status_code == 401
    assert client.post("/v1/batches", "{}", content_type="text/plain").status_code == 401


def test_a_key_in_an_address_is_no_key(owner: Person) -> None:
    for name in ("api_key", "key", "access_token"):
        assert Client().get("/v1/models", {name: owner.key}).status_code == 401


@pytest.mark.parametrize(
    "address", ["/.git/config", "/static/", "/static/js/", "/static/../manage.py", "/.env", "/var/"]
)
def test_only_static_files_are_served(transactional_db: None, address: str) -> None:
    answer = Client().get(address)
    assert answer.status_code in (404, 301) and b"settings" not in answer.content and b"[core]" not in answer.content


def test_debug_is_off_and_trace_is_no_method(ada: User) -> None:
    assert shipped.DEBUG is False
    client = Client(raise_request_exception=False)
    client.force_login(ada)
    for address in ("/v1/models", "/account/", "/v1/batch"):
        assert client.generic("TRACE", address, headers={"X-Secret": "seen"}).status_code in (401, 404, 405)


def test_cookies_are_secure_behind_tls(ada: User, settings: Any) -> None:
    """HTTPS=1 sets both; tests run without."""
    assert shipped.SESSION_COOKIE_SECURE is shipped.CSRF_COOKIE_SECURE is shipped.HTTPS
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    client = Client()
    client.get("/account/login/", secure=True)
    sign_in(PHRASE, client)
    assert client.cookies["sessionid"]["secure"] and client.cookies["csrftoken"]["secure"]


def test_an_api_by_http_is_not_led_elsewhere(owner: Person, settings: Any) -> None:
    """Whoever sends a key in the clear is to notice."""
    settings.HTTPS = settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    keyed = {"Authorization": f"Bearer {owner.key}"}
    refused = Client().get("/v1/models", headers=keyed)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "https_required")
    assert Client().get("/v1/models", headers=keyed | {"X-Forwarded-Proto": "https"}).status_code == 200
    page = Client().get("/account/login/")
    assert (page.status_code, page["Location"]) == (301, "https://testserver/account/login/")
    assert Client().get("/healthz").status_code == 200


def test_our_own_faults_say_nothing(
    owner: Person, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is one sentence; the log has what happened."""

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("SELECT inside")

    monkeypatch.setattr("tenants.keys.find", broken)
    answer = Client(raise_request_exception=False).get("/v1/models", headers={"Authorization": "Bearer x"})
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "server_error"
    assert b"SELECT" not in answer.content and b"Traceback" not in answer.content
    assert "SELECT inside" in caplog.text and answer["x-request-id"].startswith("req_")


# --- logs -------------------------------------------------------------------------------------------------------------


def test_a_line_of_the_log_is_one_line() -> None:
    record = logging.LogRecord("n", logging.INFO, "p", 1, "said %s", ("a\nERROR b\r\x1b[31m\u2028c é",), None)
    record.created, record.msecs = 0, 7
    line = OneLine().format(record)
    assert line == "1970-01-01T00:00:00.007Z INFO n said a\\nERROR b\\r\\x1b[31m\\u2028c é"
    assert json.loads(OneObject().format(record))["message"] == record.getMessage()
    assert OneObject().format(record).isascii() and OneObject().format(record).isprintable()
    assert shipped.LOGGING["formatters"]["line"]["()"] == "provocative.logs.formatter"


def test_signing_in_is_in_the_log(ada: User, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tenants")
    client = Client()
    sign_in("wrong phrase", client)
    sign_in(PHRASE, client)
    change(client, PHRASE, "another long phrase")
    client.post("/account/logout/")
    totp.TOTP.activate(ada, SECRET)
    sign_in("another long phrase", client)
    client.post("/account/2fa/authenticate/", {"code": "000000"})
    Client().post("/account/login/", {"login": "nobody@example.com", "password": "x"})
    said = [record.getMessage() for record in caplog.records if record.name == "tenants.attempts"]
    assert said == [
        f"not signed in: password of person {ada.pk}",
        f"signed in: person {ada.pk} by password",
        f"password changed: person {ada.pk}",
        f"signed out: person {ada.pk}",
        f"not signed in: second step of person {ada.pk}",
        "not signed in: password of person None",
    ]
    assert "example.com" not in caplog.text and "phrase" not in caplog.text


def test_who_may_not_is_in_the_log(owner: Person, ada: User, caplog: pytest.LogCaptureFixture) -> None:
    row = owner.tenant.keys.get()
    row.scopes = "batch:read"
    row.save()
    assert Client().post("/v1/batches", headers={"Authorization": f"Bearer {owner.key}"}).status_code == 403
    Membership.objects.update(role="reader")
    client = Client()
    client.force_login(ada)
    assert client.post(f"/t/{owner.tenant.public_id}/keys/{row.prefix}/revoke").status_code == 403
    said = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert said == [
        f"refused: insufficient_scope to key {row.prefix}, POST",
        f"refused: role_insufficient to person {ada.pk}, POST",
    ]
    assert owner.key not in caplog.text


def test_logs_go_to_stderr_alone() -> None:
    handlers: Any = shipped.LOGGING["handlers"]
    assert [each["class"] for each in handlers.values()] == ["logging.StreamHandler"]
    for each in sources():
        assert not each.called & {"FileHandler", "SysLogHandler", "basicConfig"}, each.place


def test_no_test_tool_is_shipped() -> None:
    assert not [each.place for each in sources() if "tests" in each.imported]
