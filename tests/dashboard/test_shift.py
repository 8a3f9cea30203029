"""A shift at the console: a batch that does not move, and all that is done about it."""

import re
from datetime import timedelta

import pytest
from allauth.mfa.totp.internal import auth as totp
from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.utils import timezone
from playwright.sync_api import Browser, Page

from batches.models import Batch, Slice, Upstream
from billing import ledger
from tenants.models import ApiKey, AuditEvent, Tenant
from tests import browser, staff
from tests.conftest import Person
from tests.dashboard.test_people import PASSWORD, code
from tests.test_web import make_batches

pytestmark = pytest.mark.sqlite_only
EMAIL = "shift@example.com"
SECRET = totp.generate_totp_secret()
USD = 10**12


@pytest.fixture
def stuck(owner: Person) -> Batch:
    """Its upstream rests; another one for the model is there."""
    now = timezone.now()
    long_ago = now - timedelta(hours=2)
    [batch] = make_batches(
        owner.tenant, status="in_progress", model="llama", total=40, created_at=long_ago, in_progress_at=long_ago,
        deadline=now + timedelta(minutes=20),
    )  # fmt: skip
    Slice.objects.create(
        tenant=owner.tenant, batch=batch, index=0, model="llama", offset=0, length=9, lines=40, tokens=400, entries=b""
    )
    resting = now + timedelta(seconds=30)
    Upstream.objects.create(model="llama", base_url="http://10.0.0.5:8000/v1", cooling_until=resting)
    Upstream.objects.create(model="llama", base_url="http://10.0.0.6:8000/v1")
    with transaction.atomic():
        ledger.charge_batch(owner.tenant.pk, "batch_of_yesterday", 3 * USD, [])
    return batch


def sign_in(page: Page) -> None:
    """With a password, then a code."""
    page.get_by_label("E-mail address").fill(EMAIL)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_label("Code").fill(code(SECRET, 1))
    page.get_by_role("button", name="Sign in", exact=True).click()


def act(page: Page, action: str, reason: str) -> str:
    """A button on a row's page, and what the page that asks is told; what it says then."""
    page.get_by_role("button", name=f"{action}…").click()
    page.get_by_label("Reason").fill(reason)
    page.locator("form.question input[type=submit]").click()
    return page.locator(".messagelist").inner_text()


def test_a_shift(chromium: Browser, web_server: str, owner: Person, stuck: Batch) -> None:
    user = staff.member_of("support", "billing", "operations", email=EMAIL)
    user.password = make_password(PASSWORD, hasher="pbkdf2_sha256")
    user.save()
    totp.TOTP.activate(user, SECRET)
    with browser.tab(chromium, web_server) as tab:
        page = tab.open("/admin/")
        sign_in(page)
        page.wait_for_url("**/admin/")
        assert "1 batch is stuck" in page.locator("#home").inner_text()
        page.get_by_role("link", name=re.compile("stuck")).first.click()
        page.get_by_role("link", name=stuck.public_id).click()
        how = page.locator("section.how")
        assert "rest" in how.inner_text() and "10.0.0.5" in how.inner_text()
        how.get_by_role("link", name=re.compile("10.0.0.5")).click()
        assert "done to 1 upstream" in act(page, "Drain", "it hangs")
        assert Upstream.objects.get(base_url__contains="10.0.0.5").enabled is False

        tab.open(f"/admin/tenants/tenant/{owner.tenant.pk}/change/")
        page.get_by_label("Batch limit").fill("25")
        page.get_by_role("button", name="Save", exact=True).click()
        page.wait_for_url("**/admin/tenants/tenant/")
        assert Tenant.objects.get(pk=owner.tenant.pk).batch_limit == 25

        key = ApiKey.objects.get()
        tab.open(f"/admin/tenants/apikey/?q={key.prefix}")
        page.get_by_role("link", name=key.prefix).click()
        assert "done to 1 API key" in act(page, "Revoke", "it leaked")
        assert owner.get("/v1/batch").status_code == 401

        tab.open("/admin/billing/ledgerentry/?q=batch_of_yesterday")
        page.get_by_role("link", name="batch_of_yesterday").first.click()
        assert "done to 1" in act(page, "Take back", "it was ours")
        assert ledger.balance(owner.tenant.pk, ledger.Account.RECEIVABLE) == 0

        tab.open("/admin/")
        page.get_by_role("link", name="Audit events").first.click()
        trail = page.locator("#result_list").inner_text()
    told = ("Upstream drained", "Tenant changed", "API key revoked", "it hangs", "it leaked", "it was ours", "25")
    assert not [word for word in told if word not in trail], trail
    made = AuditEvent.objects.filter(actor=EMAIL).order_by("pk")
    assert [event.action for event in made] == [
        "upstream.drained", "tenant.changed", "key.revoked", "ledger.corrected",
    ]  # fmt: skip
    assert made[1].details == {"before": {"batch_limit": None}, "after": {"batch_limit": 25}}
