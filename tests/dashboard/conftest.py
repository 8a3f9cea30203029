"""One browser for all of them."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests import browser


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    if not browser.CHROMIUM:
        pytest.skip("there is no Chromium: `make browser` installs Debian's")
    with browser.chromium() as started:
        yield started
