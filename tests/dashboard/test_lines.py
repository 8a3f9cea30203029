"""A batch with three kinds of failures: why, which lines, and again."""

from typing import Any

import pytest
from django.db import connection
from playwright.sync_api import Browser

from batches.models import Batch
from tests import browser
from tests.conftest import Person
from tests.test_retry_batch import bytes_of
from tests.test_web_lines import ended, page
from tests.threads import ThreadPoolExecutor
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only

EVIL = '<img src=x onerror=alert(1)><script>alert("2")</script>'
KINDS: dict[str, list[str]] = {"good": [], "refused": ["400"], "senseless": ["422"], "moved": ["301"]}


def lines() -> list[dict[str, Any]]:
    kinds = [request_line(f"{kind}-{n}", faults=faults, user=EVIL) for n in range(3) for kind, faults in KINDS.items()]
    return [*kinds, request_line("evil", custom_id=EVIL, faults=["422"])]


@pytest.fixture
def batch(owner: Person, witness: Witness, work: Any) -> Batch:
    """It has ended. Playwright's event loop runs in this thread: the engine's, in another."""

    def run() -> Batch:
        try:
            return ended(owner, work, lines())
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(60)


def test_why_lines_failed_and_again(chromium: Browser, web_server: str, owner: Person, batch: Batch) -> None:
    with browser.tab(chromium, web_server, browser.person_of(owner.tenant)) as tab:
        shown = tab.open(page(batch, "digest"))
        causes = [each.inner_text() for each in shown.locator(".cause .heading").all()]
        assert [cause.splitlines()[0] for cause in causes] == ["HTTP 422", "HTTP 400", "upstream_redirect"]
        assert "4 lines" in causes[0] and "3 lines" in causes[1]
        assert tab.accessible() == []

        shown.get_by_role("link", name="All lines").click()
        assert shown.locator("tbody tr").count() == 13 and EVIL in shown.inner_text("tbody")
        assert tab.accessible() == []
        shown.get_by_label("custom_id, or its beginning").fill("senseless-")
        shown.get_by_role("button", name="Find").click()
        assert [row.inner_text() for row in shown.locator("td.name").all()] == [f"senseless-{n}" for n in range(3)]

        shown.locator("tbody tr").nth(1).get_by_role("link").click()
        assert '"content": "line:senseless-1 fault:422"' in shown.inner_text("#request")
        assert EVIL.replace('"', '\\"') in shown.inner_text("#request")
        assert '"status_code": 422' in shown.inner_text("#response")
        assert tab.accessible() == []

        tab.open(page(batch, "digest"))
        shown.once("dialog", lambda dialog: dialog.accept())
        shown.get_by_role("button", name="Retry just these (4 lines)").click()
        shown.wait_for_selector(".message.success")
    again = Batch.objects.get(retry_of=batch)
    sent = bytes_of(batch).splitlines(keepends=True)
    assert bytes_of(again) == b"".join(sent[n] for n in (2, 6, 10, 12))


def test_in_the_dark_and_on_a_phone(chromium: Browser, web_server: str, owner: Person, batch: Batch) -> None:
    user = browser.person_of(owner.tenant)
    with browser.tab(chromium, web_server, user, color_scheme="dark", viewport=browser.PHONE) as tab:
        for rest in ("digest", "lines?name=moved", "lines/3"):
            shown = tab.open(page(batch, rest))
            assert tab.accessible() == []
            assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth"), rest
