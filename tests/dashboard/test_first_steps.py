"""The first page that somebody sees."""

import pytest
from playwright.sync_api import Browser

from tests import browser
from tests.conftest import Person

pytestmark = pytest.mark.sqlite_only


def test_an_empty_list_teaches(chromium: Browser, web_server: str, owner: Person) -> None:
    with browser.tab(chromium, web_server, browser.person_of(owner.tenant)) as tab:
        page = tab.open("/")
        assert "first batch" in page.inner_text("main")
        assert tab.accessible() == []
