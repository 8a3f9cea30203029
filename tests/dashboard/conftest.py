"""One browser for all of them. Its loop holds the tests' own thread, so that the engine's needs another."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from django.db import connection
from playwright.sync_api import Browser

from tests import browser
from tests.threads import ThreadPoolExecutor


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    if not browser.CHROMIUM:
        pytest.skip("there is no Chromium: `make browser` installs Debian's")
    with browser.chromium() as started:
        yield started


@pytest.fixture
def working(work: Callable[..., None]) -> Iterator[Callable[..., Future[None]]]:
    """What `work` does, beside the test; its end."""

    def do(**options: Any) -> None:
        try:
            work(**options)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as thread:
        yield lambda **options: thread.submit(do, **options)
