"""People: how they sign in and how often they may try, the team, invitations; and races between owners."""

import io
import json
import re
import threading
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from django.core import mail
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tenants import admission, invitations, team
from tenants.errors import Refused
from tenants.models import AuditEvent, Invitation, Membership, Tenant, User
from tenants.web import signing_in
from tests import staff
from tests.conftest import Person
from tests.test_ledger import race

PASSWORD = "a long enough phrase"
LOGIN = "/account/login/"
SECRET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
sqlite_only = pytest.mark.sqlite_only


def user_of(tenant: Tenant, email: str, role: str = "owner") -> User:
    user = User.objects.create_user(email, PASSWORD)
    Membership.objects.create(tenant=tenant, user=user, role=role)
    return user


def browser_of(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def sign_in(client: Client, email: str, password: str = PASSWORD, **extra: Any) -> Any:
    return client.post(LOGIN, {"login": email, "password": password}, **extra)


@pytest.fixture
def ada(owner: Person) -> User:
    return user_of(owner.tenant, "ada@example.com")


@pytest.fixture
def page(owner: Person) -> str:
    return f"/t/{owner.tenant.public_id}/team"


def link() -> str:
    """The address in the newest mail."""
    [found] = re.findall(r"http://testserver(/\S+)", str(mail.outbox[-1].body))
    return str(found)


def said_by(*command: str) -> dict[str, Any]:
    """What `manage.py …` prints."""
    out = io.StringIO()
    call_command(*command, stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def assert_that(refused: Refused, code: str) -> None:
    assert refused.code == code, refused


def text(answer: Any) -> str:
    found: str = answer.content.decode()
    return found


# --- signing in -------------------------------------------------------------------------------------------------------


@sqlite_only
def test_the_printed_password_signs_in_and_the_session_is_a_new_one(owner: Person) -> None:
    made = said_by("user", "create", "ann@example.com", "--tenant", "owner")
    client = Client()
    client.get("/invitation")
    client.session["seen"] = 1
    before = client.session.session_key
    assert sign_in(client, "ann@example.com", made["password"])["Location"] == "/"
    cookie = client.cookies["sessionid"]
    assert cookie.value != before and cookie["httponly"] and cookie["samesite"] == "Lax"
    assert text(client.get("/", follow=True)).count("ann@example.com")


@sqlite_only
def test_a_changed_password_ends_the_other_sessions(ada: User) -> None:
    here, there = browser_of(ada), browser_of(ada)
    form = {"oldpassword": PASSWORD, "password1": "another long phrase", "password2": "another long phrase"}
    assert here.post("/account/password/change/", form)["Location"] == "/account/"
    assert here.get("/account/").status_code == 200
    assert there.get("/account/")["Location"].startswith(LOGIN)
    [told] = mail.outbox
    assert told.to == [ada.email] and "password of your account was changed" in str(told.body)
    assert "phrase" not in str(told.body) and told.message().get_content_type() == "text/plain"


@sqlite_only
def test_a_forgotten_password_is_replaced_by_the_link_once(ada: User) -> None:
    client, there = Client(), browser_of(ada)
    strange = client.post("/account/password/reset/", {"email": "nobody@example.com"}, follow=True)
    assert not mail.outbox
    known = client.post("/account/password/reset/", {"email": "Ada@example.com"}, follow=True)
    assert re.sub(r'value="\w{64}"', "", text(known)) == re.sub(r'value="\w{64}"', "", text(strange))
    address = link()
    form = client.get(address, follow=True)
    assert address not in form.request["PATH_INFO"] and "Choose a new password" in text(form)
    new = {"password1": "another long phrase", "password2": "another long phrase"}
    assert "Your password is changed" in text(client.post(form.request["PATH_INFO"], new, follow=True))
    assert there.get("/account/").status_code == 302
    assert "does not work any more" in text(Client().get(address, follow=True))
    assert sign_in(client, ada.email, "another long phrase")["Location"] == "/"


@sqlite_only
def test_wrong_passwords_are_limited_by_account_whatever_host_or_address_is_named(ada: User, owner: Person) -> None:
    user_of(owner.tenant, "bob@example.com")
    for number in range(5):
        forged = {"HTTP_HOST": f"testserver:{1000 + number}", "HTTP_X_FORWARDED_FOR": f"10.0.0.{number}"}
        tried = sign_in(Client(), ada.email, "wrong", REMOTE_ADDR=f"192.0.2.{number}", **forged)
        assert "is not correct" in text(tried)
    sixth = sign_in(Client(), "ADA@example.com", PASSWORD, REMOTE_ADDR="192.0.2.99", HTTP_HOST="testserver:9")
    assert sixth.status_code == 200 and "Too many wrong attempts" in text(sixth)
    assert sign_in(Client(), "bob@example.com", REMOTE_ADDR="192.0.2.0")["Location"] == "/"


@sqlite_only
@pytest.mark.parametrize("proxies", [0, 1])
def test_wrong_passwords_are_limited_by_address_which_nobody_forges(ada: User, settings: Any, proxies: int) -> None:
    """A proxy appends whom it saw; what was sent to it stands before that."""
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
    answers = []
    for number in range(12):
        forged = f"10.0.0.{number}" + (", 192.0.2.7" if proxies else "")
        tried = sign_in(Client(), f"user{number}@example.com", "wrong", HTTP_X_FORWARDED_FOR=forged)
        answers.append("Too many wrong attempts" in text(tried))
    assert answers == [False] * 10 + [True] * 2
    other = sign_in(Client(), ada.email, REMOTE_ADDR="192.0.2.8", HTTP_X_FORWARDED_FOR="10.0.0.1, 192.0.2.8")
    assert other["Location"] == "/"


@sqlite_only
def test_whoever_goes_on_gets_a_page_that_says_so(owner: Person) -> None:
    answers = [sign_in(Client(), "nobody@example.com", "wrong") for _ in range(31)]
    assert answers[-1].status_code == 429 and "Too many attempts" in text(answers[-1])


@sqlite_only
def test_codes_of_the_second_step_are_limited_and_work_once(ada: User) -> None:
    totp.TOTP.activate(ada, SECRET)
    code = totp.format_hotp_value(totp.hotp_value(SECRET, list(totp.yield_hotp_counters_from_time())[1]))
    client = Client()
    assert sign_in(client, ada.email)["Location"] == "/account/2fa/authenticate/"
    assert client.get("/account/")["Location"].startswith(LOGIN)  # a password alone is not enough
    assert client.post("/account/2fa/authenticate/", {"code": code})["Location"] == "/"
    again = Client()
    sign_in(again, ada.email)
    said = [text(again.post("/account/2fa/authenticate/", {"code": code})) for _ in range(6)]
    assert "This is not the code" in said[0] and "Too many wrong attempts" in said[-1]


@sqlite_only
def test_a_recovery_code_works_once(ada: User) -> None:
    totp.TOTP.activate(ada, SECRET)
    code = RecoveryCodes.activate(ada).get_unused_codes()[0]
    for expected in (302, 200):
        client = Client()
        sign_in(client, ada.email)
        assert client.post("/account/2fa/authenticate/", {"code": code}).status_code == expected


@sqlite_only
def test_factors_are_reset_and_every_session_ends(ada: User, owner: Person) -> None:
    totp.TOTP.activate(ada, SECRET)
    RecoveryCodes.activate(ada)
    lost, other = browser_of(ada), browser_of(user_of(owner.tenant, "bob@example.com"))
    said = said_by("user", "reset-factors", "Ada@example.com")
    assert said == {"email": "ada@example.com", "removed": ["recovery_codes", "totp"], "sessions_ended": 1}
    assert lost.get("/account/").status_code == 302 and other.get("/account/").status_code == 200
    assert sign_in(Client(), ada.email)["Location"] == "/"
    with pytest.raises(CommandError, match="no user"):
        said_by("user", "reset-factors", "nobody@example.com")


@sqlite_only
def test_a_changed_address_takes_the_old_one_away(ada: User, owner: Person) -> None:
    EmailAddress.objects.create(user=ada, email=ada.email)
    root = staff.signed_in(User.objects.create_superuser("root@example.com"))
    form = {"email": "new@example.com", "first_name": "", "last_name": "", "is_active": "on"}
    assert root.post(f"/admin/tenants/user/{ada.pk}/change/", form).status_code == 302
    assert "is not correct" in text(sign_in(Client(), "ada@example.com"))
    Client().post("/account/password/reset/", {"email": "ada@example.com"})
    assert not mail.outbox
    assert sign_in(Client(), "new@example.com")["Location"] == "/"


@sqlite_only
def test_nobody_signs_up_or_changes_an_address(ada: User) -> None:
    form = {"email": "eve@example.com", "password1": PASSWORD, "password2": PASSWORD}
    assert "come by invitation" in text(Client().post("/account/signup/", form))
    client = browser_of(ada)
    for sent in ({"email": "eve@example.com", "action_add": ""}, {}):
        assert "changed by the operator" in text(client.post("/account/email/", sent))
    assert not EmailAddress.objects.exists() and User.objects.count() == 1


@sqlite_only
def test_the_admins_door_asks_for_the_second_step(owner: Person) -> None:
    root = User.objects.create_superuser("root@example.com", PASSWORD)
    totp.TOTP.activate(root, SECRET)
    client = Client()
    asked = client.post("/admin/login/?next=/admin/", {"username": root.email, "password": PASSWORD})
    assert asked["Location"] == "/account/login/?next=%2Fadmin%2F"
    answer = client.post(asked["Location"], {"login": root.email, "password": PASSWORD, "next": "/admin/"})
    assert answer["Location"] == "/account/2fa/authenticate/" and client.get("/admin/").status_code == 302


@sqlite_only
def test_the_account_page_leads_to_all_of_it_with_few_queries(ada: User, outsider: Person) -> None:
    Membership.objects.create(tenant=outsider.tenant, user=ada, role="reader")
    client = browser_of(ada)
    with CaptureQueriesContext(connection) as few:
        html = text(client.get("/account/"))
    assert "Set up an app" in html and "Recovery codes" not in html and ">outsider</a>" in html and ">Reader<" in html
    totp.TOTP.activate(ada, SECRET)
    RecoveryCodes.activate(ada)
    Authenticator.objects.create(user=ada, type="webauthn", data={"name": "<b>key", "credential": {}})
    with CaptureQueriesContext(connection) as more:
        html = text(client.get("/account/"))
    assert "10 left" in html and "Take it away" in html and len(few) == len(more) <= 5


@sqlite_only
def test_a_mail_server_that_is_away_is_told_and_undoes_nothing(
    ada: User, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: Any, **kwargs: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr("django.core.mail.EmailMessage.send", away)
    known, unknown = (
        Client().post("/account/password/reset/", {"email": email}) for email in (ada.email, "nobody@example.com")
    )
    assert (known.status_code, known["Location"]) == (unknown.status_code, unknown["Location"]), "nobody is found out"
    client = browser_of(ada)
    form = {"oldpassword": PASSWORD, "password1": "another long phrase", "password2": "another long phrase"}
    assert client.post("/account/password/change/", form).status_code == 302
    said = text(client.post(f"{page}/invite", {"email": "bob@example.com", "role": "reader"}, follow=True))
    assert "No mail can be sent now" in said and "Open invitations" in said


JUNK = (
    "", "{}", "[]", "null", "NaN", "[" * 100_000, "9" * 5_000, "\x00", '{"id": 1e400}', '{"id": "\\ud800"}',
    '{"id": "\\u0000", "rawId": "x", "type": "public-key", "response": {}}',
    '{"id": "AA", "rawId": "AA", "type": "public-key", "response": {"clientDataJSON": "e30", "attestationObject": "AA"}}',
    ('{"id": "AA", "rawId": "AA", "type": "public-key", "response": {"clientDataJSON": "e30", "authenticatorData": "AA",'
    ' "signature": "AA", "userHandle": "AA"}}'),
)  # fmt: skip


@pytest.mark.sqlite_first
@pytest.mark.parametrize("begun", [False, True])
def test_junk_in_place_of_an_address_a_code_or_a_key(ada: User, begun: bool) -> None:
    totp.TOTP.activate(ada, SECRET)
    stranger, halfway, here = Client(), Client(), browser_of(ada)
    sign_in(halfway, ada.email)
    here.post("/account/reauthenticate/", {"password": PASSWORD})
    if begun:
        stranger.get("/account/2fa/webauthn/login/", headers={"Accept": "application/json"})
        halfway.get("/account/2fa/authenticate/")
        here.get("/account/2fa/webauthn/add/")
    for junk in JUNK:
        cache.clear()  # the attempts
        for client, address, names in (
            (stranger, "/account/2fa/webauthn/login/", "credential"),
            (stranger, LOGIN, "login password next"),
            (stranger, "/account/password/reset/", "email"),
            (halfway, "/account/2fa/authenticate/", "credential"),
            (halfway, "/account/2fa/authenticate/", "code"),
            (here, "/account/2fa/webauthn/add/", "credential name"),
        ):
            answer = client.post(address, dict.fromkeys(names.split(), junk))
            assert answer.status_code in (200, 302), (address, junk)
    assert not Authenticator.objects.filter(type="webauthn").exists()


# --- the team ---------------------------------------------------------------------------------------------------------

ACTIONS = ("invite", "resend", "take-back", "role", "remove")


@sqlite_only
@pytest.mark.parametrize("role", ["reader", "member"])
def test_who_is_no_owner_sees_the_team_and_decides_nothing(owner: Person, ada: User, page: str, role: str) -> None:
    invitations.invite(owner.tenant, ada, "carl@example.com", "reader")
    client = browser_of(user_of(owner.tenant, "bob@example.com", role))
    html = text(client.get(page))
    assert "ada@example.com" in html and "carl@example.com" not in html and "<select" not in html
    for action in ACTIONS:
        assert f"{page}/{action}" not in html
        answer = client.post(f"{page}/{action}", {"email": "ada@example.com", "role": "reader"})
        assert answer.status_code == 403
    assert set(Membership.objects.values_list("role", flat=True)) == {"owner", role}


@sqlite_only
def test_an_owner_changes_a_role_and_removes_a_member_at_once(owner: Person, ada: User, page: str) -> None:
    bob = user_of(owner.tenant, "bob@example.com", "reader")
    client, his = browser_of(ada), browser_of(bob)
    assert his.post(f"{page}/invite", {}).status_code == 403
    said = text(client.post(f"{page}/role", {"email": bob.email, "role": "owner"}, follow=True))
    assert "bob@example.com is owner now" in said
    assert his.post(f"{page}/invite", {}).status_code == 400  # he may, and said nothing
    client.post(f"{page}/remove", {"email": bob.email})
    assert his.get(page).status_code == 404 and "do not belong to a tenant" in text(his.get("/"))
    trail = AuditEvent.objects.order_by("pk").values_list("action", "actor", "target", "details")
    assert list(trail) == [
        ("member.role_changed", ada.email, bob.email, {"before": "reader", "after": "owner"}),
        ("member.removed", ada.email, bob.email, {"role": "owner"}),
    ]
    assert client.post(f"{page}/role", {"email": ada.email, "role": "king"}).status_code == 400
    for unknown in ("bob@example.com", "\x00", "é" * 900, ""):
        assert "does not belong to the tenant" in text(client.post(f"{page}/remove", {"email": unknown}, follow=True))


@sqlite_only
@pytest.mark.parametrize("decision", ["remove", "role"])
def test_a_former_owner_has_no_way_back_in(owner: Person, ada: User, page: str, decision: str) -> None:
    bob = user_of(owner.tenant, "bob@example.com", "owner")
    for inviter, invited in ((bob, "bob@elsewhere.example"), (ada, "carol@example.com")):
        browser_of(inviter).post(f"{page}/invite", {"email": invited, "role": "owner"})
    browser_of(ada).post(f"{page}/{decision}", {"email": bob.email, "role": "reader"})
    assert [row.email for row in Invitation.objects.filter(closed_at=None)] == ["carol@example.com"]


@sqlite_only
def test_the_last_owner_stays(owner: Person, ada: User, page: str) -> None:
    gone = user_of(owner.tenant, "gone@example.com")
    User.objects.filter(pk=gone.pk).update(is_active=False)  # who can't sign in does not count
    client = browser_of(ada)
    me = {"email": ada.email}
    for action, form in (("leave", {}), ("role", me | {"role": "member"}), ("remove", me)):
        assert "is the only owner" in text(client.post(f"{page}/{action}", form, follow=True))
    user_of(owner.tenant, "bob@example.com")
    assert client.post(f"{page}/leave")["Location"] == "/"
    assert client.get(page).status_code == 404
    assert AuditEvent.objects.get().action == "member.left"


def demote_each_other(owner: Person) -> list[str]:
    """Two owners, at once; the roles that they have then."""
    pair = [user_of(owner.tenant, f"owner{number}@example.com") for number in (0, 1)]

    def demote(number: int) -> None:
        try:
            team.change_role(owner.tenant, pair[number], pair[1 - number].email, "member")
        except Refused as refused:
            assert_that(refused, "role_insufficient")

    race(2, demote)
    return sorted(Membership.objects.values_list("role", flat=True))


def test_of_two_owners_who_demote_each_other_one_remains(owner: Person) -> None:
    assert demote_each_other(owner) == ["member", "owner"]


def test_without_the_lock_no_owner_remains(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    looked, keep = threading.Barrier(2, timeout=20), team.keep_an_owner

    def together(member: Membership) -> None:
        keep(member)
        looked.wait()

    with monkeypatch.context() as patched:
        patched.setattr(admission, "lock", lambda tenant: None)
        patched.setattr(team, "keep_an_owner", together)
        if connection.vendor == "sqlite":  # there the lock is the transaction itself
            patched.setattr(transaction, "atomic", nullcontext)
        assert demote_each_other(owner) == ["member", "member"]


@sqlite_only
def test_a_large_team_is_paged_and_costs_no_more_queries(
    owner: Person, ada: User, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = browser_of(ada)
    client.get(page)
    with CaptureQueriesContext(connection) as alone:
        client.get(page)
    for number in range(5):
        user_of(owner.tenant, f"b{number}@example.com", "reader")
        invitations.invite(owner.tenant, ada, f"c{number}@example.com", "reader")
    monkeypatch.setattr("tenants.web.team.PAGE", 3)
    with CaptureQueriesContext(connection) as crowded:
        first = text(client.get(page))
    assert len(alone) == len(crowded) <= 6
    second = text(client.get(page, {"after": "b1@example.com"}))
    assert "Next page" in first and "b1@example.com" in first and 'value="b2@example.com"' not in first
    assert 'value="b2@example.com"' in second and 'value="b1@example.com"' not in second
    for junk in ("\x00", "é" * 900, "~"):
        assert client.get(page, {"after": junk}).status_code == 200


@sqlite_only
def test_the_switch_leads_from_one_tenant_to_another(owner: Person, outsider: Person, ada: User) -> None:
    client = browser_of(ada)
    assert 'class="menu switch"' not in text(client.get("/", follow=True))
    Membership.objects.create(tenant=outsider.tenant, user=ada, role="reader")
    html = text(client.get("/", follow=True))
    address = f"/t/{outsider.tenant.public_id}/batches"
    assert f'href="{address}"' in html
    assert client.get(address).status_code == 200
    assert client.get("/")["Location"] == address  # the one that was seen last
    Membership.objects.filter(tenant=outsider.tenant).delete()
    assert client.get(address).status_code == 404
    assert client.get("/")["Location"] == f"/t/{owner.tenant.public_id}/batches"


# --- invitations ------------------------------------------------------------------------------------------------------


def invite(client: Client, page: str, email: str = "bob@example.com", role: str = "reader") -> str:
    """Invite, and read the mail."""
    answer = client.post(f"{page}/invite", {"email": email, "role": role}, follow=True)
    assert "the link in the mail works" in text(answer)
    assert mail.outbox[-1].to == [email.lower()]
    return link()


@sqlite_only
def test_an_unknown_address_gets_an_account(ada: User, page: str, caplog: pytest.LogCaptureFixture) -> None:
    address = invite(browser_of(ada), page, "Bob@Example.com")
    secret = address.rpartition("/")[2]
    assert len(secret) >= 43 and not Invitation.objects.filter(digest=secret).exists()
    assert "\n".join(map(str, AuditEvent.objects.values_list())).count(secret) == 0
    client = Client()
    opened = client.get(address)
    assert opened["Location"] == "/invitation" and opened["Referrer-Policy"] == "no-referrer"
    assert secret not in str(dict(client.session)) and "no-store" in opened["Cache-Control"]
    assert "bob@example.com" in text(client.get("/invitation"))
    for weak in ("short", "password", "bob@example.com", ""):
        assert 'role="alert"' in text(client.post("/invitation", {"password": weak}))
    joined = client.post("/invitation", {"password": PASSWORD}, follow=True)
    assert "Welcome to owner" in text(joined)
    bob = User.objects.get(email="bob@example.com")
    assert Membership.objects.get(user=bob).role == "reader"
    assert EmailAddress.objects.get(user=bob).verified
    assert [event.action for event in AuditEvent.objects.order_by("pk")] == ["invitation.created", "member.joined"]
    for again in (Client(), client):
        assert again.get(address).status_code == 404 and again.get("/invitation").status_code == 404
    assert secret not in caplog.text
    assert sign_in(Client(), "bob@example.com")["Location"] == "/"


@sqlite_only
def test_a_link_that_fails_is_logged_without_its_secret(
    ada: User, page: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    address = invite(browser_of(ada), page)
    monkeypatch.setattr(invitations, "found", lambda kept: 1 / 0)
    assert Client(raise_request_exception=False).get(address).status_code == 500
    assert "Internal Server Error: /invitations/<str:secret>" in caplog.text
    assert address.rpartition("/")[2] not in caplog.text


@sqlite_only
def test_a_known_address_signs_in_and_accepts(ada: User, page: str, outsider: Person) -> None:
    bob = user_of(outsider.tenant, "bob@example.com")
    address = invite(browser_of(ada), page, role="member")
    client = Client()
    assert "sign in, then accept" in text(client.get(address, follow=True))
    assert client.post("/invitation", {"password": "a new long phrase"})["Location"] == "/invitation"
    assert User.objects.get(pk=bob.pk).check_password(PASSWORD)
    back = client.post(LOGIN, {"login": bob.email, "password": PASSWORD, "next": "/invitation"})
    assert back["Location"] == "/invitation"
    assert "Accept the invitation" in text(client.get("/invitation"))
    assert not Membership.objects.filter(user=bob, tenant__name="owner").exists()
    assert "Welcome to owner" in text(client.post("/invitation", follow=True))
    assert Membership.objects.get(user=bob, tenant__name="owner").role == "member"


@sqlite_only
def test_somebody_else_is_told_and_learns_nothing(ada: User, page: str, outsider: Person) -> None:
    address = invite(browser_of(ada), page)
    eve = user_of(outsider.tenant, "eve@example.com")
    client = browser_of(eve)
    html = text(client.get(address, follow=True))
    assert "for somebody else" in html and "bob@example.com" not in html and "owner</" not in html
    client.post("/invitation")
    client.post("/invitation", {"password": PASSWORD})
    assert (
        Membership.objects.filter(user=eve).count() == 1 and not User.objects.filter(email="bob@example.com").exists()
    )
    assert "Choose a password" in text(client.post("/invitation", {"sign_out": "1"}, follow=True))
    assert client.get("/account/").status_code == 302


@sqlite_only
def test_an_invitation_is_sent_again_and_taken_back(owner: Person, ada: User, page: str) -> None:
    client = browser_of(ada)
    first = invite(client, page)
    again = client.post(f"{page}/invite", {"email": "BOB@example.com", "role": "owner"})
    assert again.status_code == 409 and "invited already" in text(again) and 'value="BOB@example.com"' in text(again)
    client.post(f"{page}/resend", {"email": "bob@example.com"})
    second = link()
    assert second != first and Client().get(first).status_code == 404 and Client().get(second).status_code == 302
    client.post(f"{page}/take-back", {"email": "bob@example.com"})
    assert Client().get(second).status_code == 404
    assert "does not stand any more" in text(client.post(f"{page}/resend", {"email": "bob@example.com"}, follow=True))
    assert "belongs to owner already" in text(client.post(f"{page}/invite", {"email": ada.email, "role": "member"}))
    invite(client, page)  # there is room for another


@sqlite_only
def test_an_invitation_lasts_seven_days(owner: Person, ada: User, page: str) -> None:
    client, joining = browser_of(ada), Client()
    address = invite(client, page)
    joining.get(address)
    week = Invitation.objects.get().expires_at - timezone.now()
    assert timedelta(days=6, hours=23) < week <= timedelta(days=7)
    Invitation.objects.update(expires_at=timezone.now())
    assert joining.post("/invitation", {"password": PASSWORD}).status_code == 404
    assert "expired" in text(client.get(page)) and not User.objects.filter(email="bob@example.com").exists()
    assert Client().get(invite(client, page)).status_code == 302


@sqlite_only
def test_who_belongs_already_is_told_and_keeps_the_role(owner: Person, ada: User, page: str) -> None:
    address = invite(browser_of(ada), page)
    bob = browser_of(user_of(owner.tenant, "bob@example.com", "owner"))
    assert "You belong to owner already" in text(bob.get(address, follow=True))
    assert Membership.objects.get(user__email="bob@example.com").role == "owner"


@sqlite_only
def test_nobody_mails_the_world(owner: Person, ada: User, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing_in, "MAILS", "3/h/user")
    client = browser_of(ada)
    for number in range(3):
        invite(client, page, f"user{number}@example.com")
    answer = client.post(f"{page}/invite", {"email": "one.more@example.com", "role": "reader"})
    assert answer.status_code == 429 and "within an hour" in text(answer) and len(mail.outbox) == 3


@sqlite_only
@pytest.mark.parametrize(
    "email", ["", "no address", "a@b", "a@example.com\nBcc: b@example.com", "\x00a@b.de", "é" * 900]
)
def test_what_is_no_address_is_refused_beside_the_field(ada: User, page: str, email: str) -> None:
    answer = browser_of(ada).post(f"{page}/invite", {"email": email, "role": "reader"})
    assert answer.status_code == 400 and 'role="alert"' in text(answer) and not mail.outbox


@sqlite_only
def test_names_in_mails_are_one_line_of_text(owner: Person, ada: User, page: str) -> None:
    Tenant.objects.filter(pk=owner.tenant.pk).update(name="<b>Ünï & Co\r\nBcc: eve@example.com")
    browser_of(ada).post(f"{page}/invite", {"email": "bob@example.com", "role": "reader"})
    [sent] = mail.outbox
    assert sent.subject == "You are invited to <b>Ünï & Co Bcc: eve@example.com" and sent.recipients() == [
        "bob@example.com"
    ]
    assert "<b>Ünï & Co" in str(sent.body)


def accept_at_once(owner: Person, ada: User) -> int:
    """The same invitation, accepted in eight browsers of one person at once; how many of them came in."""
    invitation, secret = invitations.invite(owner.tenant, ada, "bob@example.com", "reader")
    found = invitations.found(invitations.digest(secret))
    assert found is not None and found.pk == invitation.pk
    bob = User.objects.create_user("bob@example.com")

    def accept(number: int) -> bool:
        try:
            invitations.accept(found, bob)
        except Refused as refused:
            assert_that(refused, "invitation_not_found")
            return False
        return True

    return sum(race(8, accept))


def test_of_eight_acceptances_one_comes_in(owner: Person, ada: User) -> None:
    assert accept_at_once(owner, ada) == 1
    assert Membership.objects.filter(user__email="bob@example.com").count() == 1
    assert AuditEvent.objects.filter(action="member.joined").count() == 1


def test_without_the_conditional_update_all_of_them_do(
    owner: Person, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_then_write(invitation: Invitation) -> bool:
        stands = invitation.closed_at is None  # as it was read before
        Invitation.objects.filter(pk=invitation.pk).update(closed_at=timezone.now(), accepted=True)
        return stands

    monkeypatch.setattr(invitations, "close", read_then_write)
    assert accept_at_once(owner, ada) == 8


def test_of_eight_accounts_made_at_once_one_is(owner: Person, ada: User) -> None:
    _, secret = invitations.invite(owner.tenant, ada, "bob@example.com", "reader")
    found = invitations.found(invitations.digest(secret))
    assert found is not None

    def join(number: int) -> bool:
        try:
            invitations.accept_anew(found, PASSWORD)
        except Refused:
            return False
        return True

    assert sum(race(8, join)) == 1
    assert User.objects.filter(email="bob@example.com").count() == 1


def test_an_account_made_meanwhile_is_not_made_again(owner: Person, ada: User) -> None:
    _, secret = invitations.invite(owner.tenant, ada, "bob@example.com", "reader")
    found = invitations.found(invitations.digest(secret))
    User.objects.create_user("bob@example.com", "the operator's phrase")
    assert found is not None
    with pytest.raises(Refused, match="sign in"):
        invitations.accept_anew(found, PASSWORD)
    assert Invitation.objects.get().closed_at is None
