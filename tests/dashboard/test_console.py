"""Every page of the console: nothing that its policy forbids, by day and by night, wide and narrow.

SCREENSHOTS=folder keeps a picture of each, and looks closely at all of them (`make screenshots`).
"""

import re
from html.parser import HTMLParser

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import Group
from playwright.sync_api import Browser

from batches.models import Batch, Upstream
from tenants.models import ApiKey, AuditEvent, Membership, Tenant, User
from tests import browser, rows, staff, test_console_why
from tests.browser import Tab
from tests.conftest import Person
from tests.dashboard import console_gallery
from tests.dashboard.console_gallery import Asking
from tests.dashboard.test_every_page import SCREENSHOTS, look, seen

pytestmark = pytest.mark.sqlite_only
LONG = 14  # rows in a question whose list is long


class Forbidden(HTMLParser):
    """What a page's policy would not let happen."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        here = dict(attrs)
        if tag in ("style", "base", "iframe", "object", "embed"):
            self.found.append(f"<{tag}>")
        if tag == "script" and "src" not in here and here.get("type") != "application/json":
            self.found.append("<script> without src")
        for name, value in attrs:
            text = (value or "").strip().lower()
            if name == "style" or name.startswith("on") or text.startswith("javascript:"):
                self.found.append(f"<{tag} {name}={value!r}>")
            if name in ("src", "action", "formaction") and text.startswith(("http", "//")):
                self.found.append(f"<{tag} {name}={value!r}>")


def forbidden(html: str) -> list[str]:
    parser = Forbidden()
    parser.feed(html)
    return parser.found


def test_what_a_policy_forbids_is_found() -> None:
    for html in (
        '<p style="color: red">',
        "<a onclick=x>",
        "<script>x</script>",
        "<a href=' JavaScript:x'>",
        "<style>",
    ):
        assert forbidden(html), html
    assert not forbidden('<p class="a"><script src="/a.js"></script><script type="application/json">{}</script>')


def test_no_page_has_what_its_policy_forbids(owner: Person) -> None:
    root = console_gallery.world(owner)
    client, count = staff.signed_in(root), 0
    for path, answer in console_gallery.pages(root):
        count += 1
        assert "default-src 'none'" in answer["Content-Security-Policy"], path
        assert forbidden(answer.content.decode()) == [], path
    assert count >= 70
    for ask in console_gallery.asking(root):
        answer = client.post(ask.address, {"action": ask.action, ACTION_CHECKBOX_NAME: ask.pk})
        assert answer.status_code == 200 and forbidden(answer.content.decode()) == [], ask


def named(path: str) -> str:
    """A file's name for an address."""
    return "console-" + (re.sub(r"\W+", "-", re.sub(r"/\d+/", "/", path.removeprefix("/admin/"))).strip("-") or "home")


def some() -> tuple[str, ...]:
    """A page of each kind: all of them are made of the same."""
    return (
        "/admin/",
        rows.url(ApiKey, "changelist"),
        rows.url(Tenant, "change", Tenant.objects.order_by("pk")[0].pk),
        rows.url(Group, "add"),
        rows.url(AuditEvent, "changelist"),
    )


def asked(tab: Tab, ask: Asking) -> list[str]:
    """What is wrong with a page that asks about a row of a list."""
    tab.open(ask.address)
    tab.page.check(f"input.action-select[value='{ask.pk}']")
    tab.page.select_option("select[name=action]", ask.action)
    tab.page.click(".actions button[type=submit]")
    return seen(tab, named(f"{ask.address}ask/{ask.action}"))


def asked_of_many(tab: Tab) -> list[str]:
    """The same, come to by choosing a page of a list."""
    tab.open(rows.url(ApiKey, "changelist"))
    tab.page.check("#action-toggle")
    tab.page.select_option("select[name=action]", "revoke")
    tab.page.click(".actions button[type=submit]")
    assert tab.page.locator(".asked li").count() >= LONG
    return seen(tab, "console-ask-many")


def test_console_is_accessible_and_fits(chromium: Browser, web_server: str, owner: Person) -> None:
    root = console_gallery.world(owner)
    paths = [path for path, _ in console_gallery.pages(root)] if SCREENSHOTS else some()
    questions, wrong = list(console_gallery.asking(root)), []
    with browser.tab(chromium, web_server, staff.session(root)) as tab:
        for path in paths:
            wrong += look(tab, path, named(path))
        for ask in questions if SCREENSHOTS else ():
            wrong += asked(tab, ask)
        wrong += asked_of_many(tab)
    assert not wrong, "\n".join(wrong)


def test_a_reason_is_in_sight_and_a_batch_that_waits_fits(chromium: Browser, web_server: str, owner: Person) -> None:
    batch = test_console_why.running(owner.tenant)
    Upstream.objects.create(model="m", base_url="http://a-server-with-a-long-name.example.com:8000/v1", enabled=False)
    AuditEvent.objects.create(
        tenant=owner.tenant, actor="operations@example.com", action="batch.paused", target=batch.public_id,
        details={"reason": "It was told to stop, by those whose work it is"},
    )  # fmt: skip
    with browser.tab(chromium, web_server, staff.session(staff.member_of("operations"))) as tab:
        page = tab.open(rows.url(AuditEvent, "changelist"))
        box = page.locator("td.field-told").first.bounding_box()
        assert box and box["x"] + box["width"] <= browser.DESKTOP["width"]
        page.set_viewport_size(browser.PHONE)
        tab.open(rows.url(Batch, "change", batch.pk))
        assert page.evaluate("document.documentElement.scrollWidth") <= browser.PHONE["width"]


def test_what_djangos_scripts_draw_works_under_the_policy(
    chromium: Browser, web_server: str, owner: Person, transactional_db: None
) -> None:
    root = User.objects.create_superuser("root@example.com")
    with browser.tab(chromium, web_server, staff.session(root)) as tab:
        page = tab.open(rows.url(Membership, "add"))
        page.click(".field-tenant .select2-selection")
        page.fill(".select2-search__field", "own")
        page.click(".select2-results__option >> text=owner")
        assert "owner" in page.inner_text(".field-tenant .select2-selection__rendered")
        assert tab.accessible() == []
        with page.expect_popup() as opened:
            page.click("#add_id_tenant")
        opened.value.fill("#id_name", "Made beside it")
        with opened.value.expect_event("close"):
            opened.value.click("input[name=_save]")
        page.wait_for_function("document.getElementById('id_tenant').selectedOptions[0].text === 'Made beside it'")
        page.click(".theme-toggle")
        assert page.get_attribute("html", "data-theme") == "dark" and tab.accessible(["color-contrast"]) == []
        page = tab.open(rows.url(Tenant, "change", owner.tenant.pk))
        page.click(".add-row a")
        page.click("#memberships-0 .select2-selection")
        page.click(".select2-results__option >> text=root@example.com")
        assert tab.accessible() == []
        page.click("input[name=_save]")
        page.click("details.filter:has-text('Plan') summary")
        page.keyboard.press("Escape")
        assert page.locator("details.filter[open]").count() == 0
        page.click("details.filter:has-text('Plan') summary")
        page.click("details.filter[open] >> text=Shared")
        assert "Plan: Shared" in page.inner_text("#filters")
    assert Membership.objects.get().tenant == owner.tenant and Tenant.objects.filter(name="Made beside it").exists()


def test_the_way_in_is_the_dashboards(chromium: Browser, web_server: str, transactional_db: None) -> None:
    with browser.tab(chromium, web_server) as tab:
        for path in console_gallery.SIGNING_IN:
            tab.open(path)
            assert "/account/login/?next=" in tab.page.url
    user = User.objects.create_user("new@example.com", is_staff=True)
    with browser.tab(chromium, web_server, user) as tab:
        tab.open("/admin/")
        assert tab.page.url.endswith("/account/")
        assert tab.page.locator("text=Staff need a second step").is_visible()
