"""A new batch in a browser: a file is dropped, mended, looked at, and submitted."""

import hashlib
import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from batches import objects
from batches.models import Batch, File
from tests import browser
from tests.browser import Tab
from tests.conftest import Person, until
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only
DROP = """([name, text]) => {
    const data = new DataTransfer();
    data.items.add(new File([text], name));
    for (const type of ["dragenter", "dragover", "drop"]) {
        const event = new DragEvent(type, {bubbles: true, cancelable: true, dataTransfer: data});
        document.getElementById("zone").dispatchEvent(event);
    }
}"""
WATCH = """() => {
    window.seen = [];
    const bar = document.getElementById("bytes");
    new MutationObserver(() => window.seen.push(bar.value)).observe(bar, {attributes: true});
}"""
SLOW = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 1_500_000}


def drop(page: Page, path: Path) -> None:
    page.evaluate(DROP, [path.name, path.read_text()])


def opened(tab: Tab, owner: Person) -> Page:
    return tab.open(f"/t/{owner.tenant.public_id}/upload")


def test_a_file_is_dropped_mended_and_becomes_a_batch(
    chromium: Browser, web_server: str, owner: Person, witness: Witness, tmp_path: Path
) -> None:
    good = [request_line(f"line-{n}") for n in range(3)]
    bad = browser.jsonl(tmp_path, [good[0], request_line("b", model="nobody"), good[2], good[2]])
    with browser.tab(chromium, web_server, browser.person_of(owner.tenant)) as tab:
        page = opened(tab, owner)
        page.fill("[name=key]", "team")
        page.fill("[name=value]", "search")
        page.fill("#max_cost_usd", "5.00")
        drop(page, bad)
        causes = page.locator(".causes")
        causes.wait_for()
        assert "Line 2" in causes.inner_text() and "nobody" in causes.inner_text() and "Line 4" in causes.inner_text()
        assert page.get_attribute("#verdict", "data-verdict") == "fails"
        page.check("[value=skip]")
        page.locator("#verdict[data-verdict=skips]").wait_for()
        assert tab.accessible() == []
        mended = browser.jsonl(tmp_path, good)
        page.set_input_files("#file", mended)
        page.locator("#verdict[data-verdict=runs]").wait_for()
        assert page.input_value("[name=value]") == "search" and page.input_value("#max_cost_usd") == "5.00"
        page.dblclick("#submit")
        page.wait_for_url("**/batches**")
    batch = Batch.objects.select_related("input_file").get()
    digest = hashlib.sha256(mended.read_bytes()).hexdigest()
    stored = b"".join(objects.chunks(batch.input_file.storage_key))
    assert batch.input_file.sha256 == digest == hashlib.sha256(stored).hexdigest()
    assert (json.loads(batch.metadata), batch.max_cost) == ({"team": "search"}, 5 * 10**12)
    assert File.objects.count() == 2


def test_bytes_are_seen_to_move_and_can_be_stopped(
    chromium: Browser, web_server: str, owner: Person, witness: Witness, tmp_path: Path
) -> None:
    file = browser.jsonl(tmp_path, [request_line(str(n), pad=10_000) for n in range(150)])
    with browser.tab(chromium, web_server, browser.person_of(owner.tenant)) as tab:
        page = opened(tab, owner)
        network = tab.context.new_cdp_session(page)
        network.send("Network.enable")
        network.send("Network.emulateNetworkConditions", SLOW | {"uploadThroughput": 200_000})
        page.evaluate(WATCH)
        page.set_input_files("#file", file)
        until(lambda: page.evaluate("window.seen.some((value) => value > 0)"))
        page.click("#cancel")
        page.locator("#zone").wait_for()
        network.send("Network.emulateNetworkConditions", SLOW)
        page.evaluate("window.seen.length = 0")
        page.set_input_files("#file", file)
        page.locator("#verdict[data-verdict=runs]").wait_for()
        seen = page.evaluate("window.seen")
        assert seen == sorted(seen) and len(set(seen)) >= 4 and seen[-1] == file.stat().st_size, seen
    assert File.objects.get().bytes == file.stat().st_size


def test_what_can_not_be_taken_is_said_before_it_is_sent(
    chromium: Browser, web_server: str, owner: Person, witness: Witness, tmp_path: Path
) -> None:
    with browser.tab(
        chromium, web_server, browser.person_of(owner.tenant), color_scheme="dark", viewport=browser.PHONE
    ) as tab:
        page = opened(tab, owner)
        for name, content, said in (("a.csv", b"a,b", "no .jsonl file"), ("a.jsonl", b"", "no line that is not blank")):
            page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": content})
            assert said in page.inner_text("#wrong")
        with page.expect_download() as download:
            page.click("text=Three lines for witness")
        example = tmp_path / "example.jsonl"
        download.value.save_as(example)
        drop(page, example)
        page.locator("#verdict[data-verdict=runs]").wait_for()
        assert "3 of 3" in page.inner_text("#preflight") and not page.is_visible("#wrong")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert tab.accessible() == []
        page.reload()
        page.locator("#verdict[data-verdict=runs]").wait_for()
        page.on("dialog", lambda dialog: dialog.accept())
        with page.expect_response("**/preflight"):  # or its answer may come after that of the removal
            page.fill("#max_error_rate", "0.2")
            page.press("#max_error_rate", "Tab")
        page.locator("#verdict[data-verdict=runs]").wait_for()
        page.click("#preflight >> text=Remove")
        page.locator("#preflight >> text=is removed").wait_for()
        assert page.input_value("#max_error_rate") == "0.2" and page.input_value("#file_id") == ""
    assert not File.objects.exclude(storage_key="").exists()
