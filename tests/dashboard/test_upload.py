"""A batch from a browser: the file dropped, its bytes on the way, what would come of it, submitted."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from batches.models import Batch
from tests import browser
from tests.conftest import Person
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only
SLOW = 400_000  # bytes a second
DROP = """([name, text]) => {
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], name));
    document.getElementById("drop").dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
}"""


def throttle(page: Page) -> None:
    """A thin line, so that the bytes are seen to move."""
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    thin = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": SLOW}
    network.send("Network.emulateNetworkConditions", thin)


def watch(page: Page) -> None:
    """Keep each value that the progress bar takes."""
    page.evaluate(
        """() => { window.values = []; const bar = document.getElementById("sent");
        new MutationObserver(() => window.values.push(bar.value)).observe(bar, {attributes: true}); }"""
    )


def test_a_file_is_dropped_mended_and_submitted(
    chromium: Browser, web_server: str, owner: Person, witness: Witness, tmp_path: Path
) -> None:
    good: list[Any] = [request_line(f"l{number}", pad=9_000) for number in range(60)]
    bad = browser.jsonl(tmp_path, [*good[:2], {"custom_id": "l0"}, {"custom_id": 7}], "bad.jsonl")
    with browser.tab(chromium, web_server, browser.person_of(owner.tenant)) as tab:
        page = tab.open(f"/t/{owner.tenant.public_id}/upload")
        page.fill("[name=metadata]", "suite=mmlu")
        page.set_input_files("#chosen", bad)
        report = page.locator("#report")
        expect(report).to_contain_text("2 of 4 lines can't run")
        assert report.locator(".causes [data-label=Which]").all_inner_texts() == ["3, 4"]
        assert tab.accessible() == []

        throttle(page)
        watch(page)
        content = "".join(json.dumps(line) + "\n" for line in good).encode()
        page.evaluate(DROP, ["good.jsonl", base64.b64encode(content).decode()])
        expect(report).to_contain_text("All 60 lines can run")
        values = page.evaluate("window.values")
        assert len({value for value in values if 0 < value < 1}) >= 2 and values == sorted(values)
        assert page.input_value("[name=metadata]") == "suite=mmlu"
        page.click("#submit")
        page.wait_for_url("**/batches/batch_*")
    batch = Batch.objects.get()
    assert batch.input_file.sha256 == hashlib.sha256(content).hexdigest()
    assert (batch.input_file.filename, batch.metadata, batch.total) == ("good.jsonl", '{"suite": "mmlu"}', 60)


def test_an_upload_is_cancelled_and_an_example_is_tried(
    chromium: Browser, web_server: str, owner: Person, witness: Witness, tmp_path: Path
) -> None:
    lines = browser.jsonl(tmp_path, [request_line(f"l{number}", pad=90_000) for number in range(60)])
    with browser.tab(chromium, web_server, browser.person_of(owner.tenant), color_scheme="dark") as tab:
        page = tab.open(f"/t/{owner.tenant.public_id}/upload")
        with page.expect_download() as downloaded:
            page.click("text=three lines for witness")
        throttle(page)
        page.set_input_files("#chosen", lines)
        page.click("#stop")
        expect(page.locator("#sending")).to_be_hidden()
        assert page.is_disabled("#submit")
        page.set_input_files("#chosen", downloaded.value.path())
        expect(page.locator("#report")).to_contain_text("All 3 lines can run")
        assert tab.accessible() == []
    assert owner.tenant.keys.count() == 1 and not Batch.objects.exists()
