"""A person's way in: a password and an app, a passkey alone; and a colleague who is invited."""

import re
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from allauth.mfa.totp.internal import auth as totp
from django.conf import settings
from django.contrib.auth.hashers import make_password
from playwright.sync_api import Browser, Page

from tenants.models import Membership, User
from tests import browser
from tests.conftest import Person

pytestmark = pytest.mark.sqlite_only

MAIL = Path(settings.HOME / "mail")
PASSWORD = "a long enough phrase"
KEY = {
    "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
    "isUserVerified": True, "automaticPresenceSimulation": True,
}  # fmt: skip


@pytest.fixture
def ada(owner: Person) -> User:
    """An owner with a password that the web server's own hashers know."""
    user = browser.person_of(owner.tenant)
    user.password = make_password(PASSWORD, hasher="pbkdf2_sha256")
    user.save()
    return user


@pytest.fixture
def localhost(web_server: str) -> str:
    """The web server under the one name for which browsers allow passkeys without TLS."""
    return web_server.replace("127.0.0.1", "localhost")


@pytest.fixture
def mails() -> None:
    for old in MAIL.glob("*.log"):
        old.unlink()


def mailed(to: str) -> Message:
    """The one mail to this address."""
    found = [message_from_bytes(path.read_bytes()) for path in MAIL.glob("*.log")]
    [mail] = [mail for mail in found if mail["To"] == to]
    assert mail.get_content_type() == "text/plain"
    return mail


def sign_in(page: Page, email: str = "ada@example.com") -> None:
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()


def sign_out(page: Page) -> None:
    page.locator("details.menu summary").last.click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/account/login/")


def confirm(page: Page) -> None:
    """That it is still the same person."""
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()


def code(secret: str, turn: int) -> str:
    """What an app shows; `turn` picks one of the three that are taken now, since each works once."""
    return str(totp.format_hotp_value(totp.hotp_value(secret, list(totp.yield_hotp_counters_from_time())[turn])))


def test_an_owner_adds_an_app_and_then_a_passkey(chromium: Browser, localhost: str, ada: User) -> None:
    with browser.tab(chromium, localhost) as tab:
        page = tab.open("/")
        sign_in(page)
        page.wait_for_url("**/batches")
        page.locator("details.menu summary").last.click()
        page.get_by_role("link", name="Account and security").click()
        page.get_by_role("button", name="Set up an app").click()
        confirm(page)
        assert page.locator("img.qr").evaluate("image => image.naturalWidth") > 0
        secret = page.locator("#secret").inner_text()
        assert tab.accessible() == []
        page.get_by_label("Code").fill(code(secret, 1))
        page.get_by_role("button", name="Turn it on").click()
        page.wait_for_url("**/recovery-codes/")
        assert len(page.locator("#codes").inner_text().split()) == 10
        page.get_by_role("button", name="Done").click()
        sign_out(page)

        sign_in(page)
        page.get_by_label("Code").fill("000000")
        page.get_by_role("button", name="Sign in", exact=True).click()
        assert "not the code" in page.get_by_role("alert").inner_text()
        page.get_by_label("Code").fill(code(secret, 2))
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.wait_for_url("**/batches")

        devices = tab.context.new_cdp_session(page)
        devices.send("WebAuthn.enable")
        devices.send("WebAuthn.addVirtualAuthenticator", {"options": KEY})
        tab.open("/account/2fa/webauthn/add/")
        confirm(page)
        page.get_by_label("Name").fill("This laptop")
        assert page.get_by_label("Passkey").is_checked()
        assert tab.accessible() == []
        page.get_by_role("button", name="Add it").click()
        page.wait_for_url("**/account/2fa/")
        sign_out(page)

        sign_in(page)
        assert tab.accessible() == []
        page.get_by_role("button", name="Use a passkey or security key").click()
        page.wait_for_url("**/batches")
        sign_out(page)
        page.get_by_role("button", name="Sign in with a passkey").click()
        page.wait_for_url("**/batches")
        assert "This laptop" in tab.open("/account/2fa/webauthn/").inner_text("main")


def test_a_colleague_is_invited_and_comes_in(
    chromium: Browser, web_server: str, owner: Person, ada: User, mails: None
) -> None:
    with (
        browser.tab(chromium, web_server, ada) as tab,
        browser.tab(chromium, web_server, viewport=browser.PHONE, color_scheme="dark") as other,
    ):
        page = tab.open(f"/t/{owner.tenant.public_id}/team")
        page.get_by_label("E-mail address").fill("Bob@Example.com")
        page.get_by_label("Role", exact=True).select_option("reader")
        page.get_by_role("button", name="Send the invitation").click()
        page.get_by_text("bob@example.com is invited").wait_for()
        assert tab.accessible() == []
        mail = mailed("bob@example.com")
        [link] = re.findall(rf"{web_server}(\S+)", str(mail.get_payload()))

        joining = other.open(link)
        assert link not in joining.url and "owner" in joining.inner_text("h1")
        assert other.accessible() == []
        joining.get_by_label("Password").fill("12345678")
        joining.get_by_role("button", name="Make the account").click()
        assert "too common" in joining.get_by_role("alert").inner_text()
        joining.get_by_label("Password").fill(PASSWORD)
        joining.get_by_role("button", name="Make the account").click()
        joining.wait_for_url("**/batches")
        assert "Welcome to owner" in joining.inner_text("#messages")
        assert Membership.objects.get(user__email="bob@example.com").role == "reader"
        assert "bob@example.com" in other.open(f"/t/{owner.tenant.public_id}/team").inner_text("table")

        tab.page.reload()
        tab.page.on("dialog", lambda dialog: dialog.accept())
        tab.page.get_by_role("button", name="Remove bob@example.com").click()
        tab.page.get_by_text("does not belong").wait_for()
        other.page.reload()
        assert "Nothing here" in other.page.inner_text("h1")
        other.wrong.clear()  # the browser itself notes each 404
