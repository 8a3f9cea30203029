"""Every page there is, by day and by night, wide and narrow: axe-core finds nothing, nothing runs over the edge.

SCREENSHOTS=folder keeps a picture of each (`make screenshots`).
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests import browser
from tests.browser import DESKTOP, PHONE, Tab
from tests.dashboard import gallery
from tests.witness import Witness

pytestmark = pytest.mark.sqlite_only
SCREENSHOTS = os.environ.get("SCREENSHOTS", "")
NTH = 3  # both schemes are one set of colours: what is wrong with one is wrong with many pages
WIDTH = "document.documentElement.scrollWidth"


def keep(tab: Tab, name: str) -> None:
    """A picture of the whole page, where they are wanted."""
    if SCREENSHOTS:
        tab.page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)


def named(path: str, ids: dict[str, str]) -> str:
    """A file's name for an address: what the ids stand for in place of the ids."""
    for kind, value in ids.items():
        path = path.replace(f"/{value}", f"/{kind.removesuffix('_id')}") if kind != "line" else path
    return re.sub(r"\W+", "-", path.removeprefix("/t/tenant/")).strip("-") or "home"


def look(tab: Tab, path: str, name: str, nth: int = 0) -> list[str]:
    """What is wrong with a page."""
    tab.page.emulate_media(color_scheme="light")
    tab.page.set_viewport_size(DESKTOP)
    tab.open(path)
    return seen(tab, name, nth)


def seen(tab: Tab, name: str, nth: int = 0) -> list[str]:
    """What is wrong with the page that is open; by night with every third alone, but for pictures."""
    path = tab.page.url
    tab.page.emulate_media(color_scheme="light")
    tab.page.set_viewport_size(DESKTOP)
    keep(tab, f"{name}.light")
    wrong = tab.accessible()
    tab.page.emulate_media(color_scheme="dark")
    keep(tab, f"{name}.dark")
    tab.page.set_viewport_size(PHONE)
    keep(tab, f"{name}.phone.dark")
    wrong += tab.accessible(["color-contrast", "target-size"]) if SCREENSHOTS or nth % NTH == 0 else []
    if (width := tab.page.evaluate(WIDTH)) > PHONE["width"]:
        wrong.append(f"{path}: is {width} wide on a phone")
    if SCREENSHOTS:
        tab.page.emulate_media(color_scheme="light")
        keep(tab, f"{name}.phone.light")
    return wrong


def test_pages_are_accessible_and_fit(chromium: Browser, web_server: str, witness: Witness, working: Any) -> None:
    world = gallery.world(witness, working)
    paths, wrong = gallery.pages(world), []
    assert len(paths) >= 30, paths
    with browser.tab(chromium, web_server) as tab:
        for path in gallery.SIGNING_IN:
            wrong += look(tab, path, named(path, {}))
    with browser.tab(chromium, web_server, world.ada) as tab:
        for nth, path in enumerate(paths):
            wrong += look(tab, path, named(path, world.ids), nth)
    assert not wrong, "\n".join(wrong)
