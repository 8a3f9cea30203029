"""A batch's life as its page tells it, in a real browser and without a reload."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from batches import tasks
from batches.core.states import Status
from batches.models import Batch
from tests import browser
from tests.conftest import Person, seal, step
from tests.test_pause import TINY, paused
from tests.test_web import NAUGHTY, make_batches
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only
EXECUTES = '"><img src=x onerror=alert(1)><svg onload=alert(2)>{{7*7}}'


@pytest.fixture(autouse=True)
def small_groups(small_groups: None) -> None:
    """Many commits, so that there is progress to be seen."""


def test_a_batch_runs_before_ones_eyes(
    chromium: Browser, web_server: str, owner: Person, witness: Witness, working: Any
) -> None:
    """Everything from outside tries to be markup: names, metadata, ids, what the upstream says."""
    witness.configure(latency_ms=[150, 250], slots=8)
    lines = [
        request_line(f"n-{n}", custom_id=f"{EXECUTES}{n}", faults=["400"] if n % 10 == 0 else []) for n in range(200)
    ]
    batch = owner.submit(lines, metadata=json.dumps({EXECUTES[:60]: NAUGHTY})).json()["id"]
    Batch.objects.get().input_file.__class__.objects.update(filename=f"{EXECUTES}.jsonl")
    with browser.tab(chromium, web_server, browser.person_of(owner.tenant)) as tab:
        page = tab.open("/")
        page.get_by_role("link", name=f"{EXECUTES}.jsonl").click()
        expect(page.locator("#head .pill")).to_have_text("Validating")
        running = working()
        shown: set[str] = set()
        page.on("response", lambda answer: shown.add(page.locator("#head .percent").inner_text()))
        expect(page.locator("#head .pill")).to_have_text("In progress")
        expect(page.locator("#head")).to_contain_text("lines/s")
        running.result(60)
        seal()
        expect(page.locator("#said")).to_have_text("Completed")
        page.get_by_role("link", name="Receipts").wait_for()
        expect(page.locator("#head")).to_contain_text("20 failed")
        expect(page.locator("#charts canvas").first).to_be_visible()
        assert not page.locator("#head").get_attribute("hx-get"), "it asks no more"
        for link, part in (("Output", "output"), ("Errors", "errors"), ("Manifest", "manifest")):
            with page.expect_download() as taken:
                page.get_by_role("link", name=link, exact=True).click()
            answer = owner.get(f"/v1/batch/{batch}/{part}").getvalue()
            content = taken.value.path().read_bytes()
            assert content and (content == answer or json.loads(content) == json.loads(answer))
            assert taken.value.suggested_filename.startswith(batch)
        assert tab.accessible() == []


def test_cancel_and_go_on(chromium: Browser, web_server: str, owner: Person, witness: Witness) -> None:
    stopped = paused(owner)
    with browser.tab(chromium, web_server, browser.person_of(owner.tenant, role="member"), color_scheme="dark") as tab:
        page = tab.open(f"/t/{owner.tenant.public_id}/batches/{stopped.public_id}")
        page.get_by_label("New cost limit, USD").fill(TINY)
        page.get_by_role("button", name="Go on").click()
        expect(page.locator("#cap-help")).to_contain_text("costs as much as its cap already")
        assert tab.accessible(["color-contrast"]) == []
        page.get_by_label("New cost limit, USD").fill("5")
        page.get_by_role("button", name="Go on").click()
        expect(page.locator("#head .pill")).to_have_text("In progress")
        page.once("dialog", lambda dialog: dialog.dismiss())
        page.get_by_role("button", name="Cancel the batch").click()
        stopped.refresh_from_db()
        assert stopped.status == Status.IN_PROGRESS, "asked, and thought better of"
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Cancel the batch").click()
        expect(page.locator("#messages")).to_contain_text("It is being cancelled")
        step("finalizing", tasks.finalize)
        expect(page.locator("#said")).to_have_text("Cancelled")
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Retry 2 undelivered lines").click()
        page.wait_for_url(re.compile(f"/batches/{Batch.objects.get(retry_of=stopped).public_id}$"))
        expect(page.locator("#state")).to_contain_text(f"It retries {stopped.public_id}")


def test_the_list_is_live(chromium: Browser, web_server: str, owner: Person) -> None:
    [batch] = make_batches(owner.tenant, filename="first.jsonl", status=Status.IN_PROGRESS, completed=1)
    make_batches(owner.tenant, filename="ended.jsonl", status=Status.COMPLETED)
    with browser.tab(chromium, web_server, browser.person_of(owner.tenant)) as tab:
        page = tab.open("/")
        make_batches(owner.tenant, filename="second.jsonl")
        page.get_by_text("second.jsonl").wait_for()
        page.get_by_role("link", name="first.jsonl").focus()
        Batch.objects.filter(pk=batch.pk).update(completed=9)
        page.get_by_text("9 of 10").wait_for()
        assert page.evaluate("document.activeElement.id") == batch.public_id, "the keyboard's place is kept"
        page.get_by_role("radio", name="Completed").check()
        expect(page.locator("a.file")).to_have_text(["ended.jsonl"])
        assert page.url.endswith("/batches?status=completed")
        page.get_by_placeholder("File name or batch id").fill("nowhere")
        expect(page.locator("#list")).to_contain_text("No batch is like that")
        page.go_back()
        expect(page.locator("a.file")).to_have_text(["ended.jsonl"])
        assert tab.accessible() == []
    with browser.tab(
        chromium, web_server, browser.person_of(owner.tenant, "eve@example.com"), java_script_enabled=False
    ) as tab:
        page = tab.open("/")
        page.get_by_placeholder("File name or batch id").fill("second")
        page.get_by_role("button", name="Search").click()
        expect(page.locator("a.file")).to_have_text(["second.jsonl"])
