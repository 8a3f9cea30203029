"""A key from its making to its end, and an endpoint that is told: made, copied and used as people and programs do."""

import json

import httpx
import pytest
from playwright.sync_api import Browser, Page

from tests import browser
from tests.browser import Tab
from tests.conftest import Person, serving
from tests.hooks import deliver, end
from tests.receiver import Receiver, verified
from tests.test_resume import at_once
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only
CLIPBOARD = {"permissions": ["clipboard-read", "clipboard-write"]}


def accessible(tab: Tab) -> list[str]:
    """In both schemes, as the page stands."""
    found = tab.accessible()
    tab.page.emulate_media(color_scheme="dark")
    found += tab.accessible()
    tab.page.emulate_media(color_scheme="light")
    return found


def copied(page: Page) -> str:
    """The secret that the page shows, as its button copies it."""
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    text: str = page.evaluate("navigator.clipboard.readText()")
    assert text and text == page.input_value("#secret")
    return text


def answered(http: httpx.Client, key: str) -> int:
    return http.get("/v1/batch", headers={"Authorization": f"Bearer {key}"}).status_code


def test_a_key_from_its_making_to_its_end(
    chromium: Browser, web_server: str, http: httpx.Client, owner: Person, witness: Witness
) -> None:
    member = browser.person_of(owner.tenant, role="member")
    keys = f"/t/{owner.tenant.public_id}/keys"
    with browser.tab(chromium, web_server, member, **CLIPBOARD) as tab:
        tab.page.on("dialog", lambda dialog: dialog.accept())
        page = tab.open(keys)
        page.get_by_role("button", name="New key").click()
        page.get_by_label("Name").fill("nightly")
        page.get_by_label("It ends").select_option("date")
        page.get_by_label("Its last day").fill("2099-12-31")
        assert tab.accessible() == []
        page.get_by_role("button", name="Make the key").dblclick()
        first = copied(page)
        assert accessible(tab) == []
        sent = http.post(
            "/v1/batch", headers={"Authorization": f"Bearer {first}"}, files={"file": json.dumps(request_line("hello"))}
        )
        assert sent.status_code == 200, sent.text

        page.reload()
        assert "was made already" in page.inner_text("main") and first not in page.content()
        tab.wrong = [said for said in tab.wrong if "409" not in said]  # that answer's status
        page.get_by_role("button", name="To the keys").click()
        assert page.get_by_role("row", name="nightly").count() == 1 and first not in page.content()

        page.get_by_role("button", name="Rotate nightly").click()
        page.get_by_label("In 24 hours").check()
        assert tab.accessible() == []
        page.get_by_role("button", name="Rotate", exact=True).click()
        second = copied(page)
        assert answered(http, first) == answered(http, second) == 200
        page.get_by_role("button", name="I have stored it").click()
        for key in (first, second):
            page.get_by_role("button", name=f"Revoke nightly, {key[:16]}").click()
            page.get_by_text(f"Revoked {key[:16]}").wait_for()
            assert answered(http, key) == 401
        page.get_by_text("Keys that have ended").click()
        assert accessible(tab) == []

        page = tab.open(f"/t/{owner.tenant.public_id}/trail")
        whats = page.locator("td:nth-child(3)").all_inner_texts()
        assert whats == ["API key revoked"] * 2 + ["API key rotated", "API key created"]
        targets = page.locator("td:nth-child(4)").all_inner_texts()
        assert targets == [second[:16], first[:16], first[:16], first[:16]]
        assert first not in page.content() and accessible(tab) == []


def test_an_endpoint_is_made_tried_and_told(chromium: Browser, owner: Person, receiver: Receiver) -> None:
    member = browser.person_of(owner.tenant, role="member")
    with (
        serving(PROVOCATIVE_WEBHOOK_NETWORKS="127.0.0.0/8") as address,
        browser.tab(chromium, address, member, **CLIPBOARD) as tab,
    ):
        tab.page.on("dialog", lambda dialog: dialog.accept())
        page = tab.open(f"/t/{owner.tenant.public_id}/webhooks")
        page.get_by_role("button", name="New endpoint").click()
        page.get_by_label("URL").fill(receiver.url)
        assert tab.accessible() == []
        page.get_by_role("button", name="Make the endpoint").click()
        secret = copied(page)
        page.get_by_role("button", name="I have stored it").click()
        page.get_by_role("button", name="Send a sample").click()
        page.get_by_text("Your server answered 200.").wait_for()
        assert verified(receiver.received[0], secret) and secret not in page.content()
        assert accessible(tab) == []

        batch = end(owner)
        at_once(1, lambda _: deliver())  # in a thread without the browser's loop
        page.get_by_role("button", name="Deliveries").click()
        assert "Delivered" in page.inner_text("table") and batch.public_id in page.inner_text("table")
        page.get_by_role("button", name="again").click()
        page.get_by_text("is sent again, with the same id").wait_for()
        at_once(1, lambda _: deliver())  # in a thread without the browser's loop
        assert len({each.event["id"] for each in receiver.received[1:]}) == 1 and len(receiver.received) == 3
        assert accessible(tab) == []
        page.get_by_role("link", name="we_").click()
        page.get_by_role("button", name="Delete the endpoint").click()
        page.get_by_text("nothing is sent there any more").wait_for()
