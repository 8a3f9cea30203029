"""A real Chromium for the tests of the dashboard: driven by Playwright, watched for what the policy of a page forbids.

Every tab reports what its Content-Security-Policy blocked and what its scripts threw; `tab` fails for either.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.conf import settings
from django.test import Client
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Response,
    ViewportSize,
    sync_playwright,
)

from tenants.models import Membership, Tenant, User

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium") or ""  # the former takes half the work
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--in-process-gpu",
    "--disable-software-rasterizer", "--disable-site-isolation-trials", "--disable-extensions",
]  # fmt: skip
DESKTOP, PHONE = ViewportSize(width=1280, height=800), ViewportSize(width=390, height=844)
STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]  # of axe-core's rules
WATCH = """
document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
window.alert = window.prompt = (text) => console.error(`executed: ${text}`);
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser. Playwright's loop runs in this thread, where Django would refuse to ask the database."""
    with pytest.MonkeyPatch.context() as patched, sync_playwright() as playwright:
        patched.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Tab:
    """A page of one context, and what went wrong in it."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        context.add_init_script(WATCH)
        self.context, self.url = context, url
        self.wrong: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.on("console", self._hear)
        self.page.on("response", self._see)
        self.page.on("pageerror", lambda error: self.wrong.append(f"thrown: {error}"))

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type == "error" and not said.text.startswith("Failed to load resource"):  # `_see` knows more
            self.wrong.append(said.text)

    def _see(self, answer: Response) -> None:
        """A page may be refused, with a page that says so; what pages are made of may not."""
        if answer.status >= 500 or (answer.status >= 400 and not answer.request.is_navigation_request()):
            self.wrong.append(f"{answer.status} {answer.request.method} {answer.url}")

    def open(self, path: str) -> Page:
        """Go to an address of the service."""
        self.page.goto(self.url + path)
        return self.page

    def accessible(self, rules: list[str] | None = None) -> list[str]:
        """What axe-core finds serious or critical on the page as it stands (by these rules, or all), and where."""
        options: dict[str, Any] = {"resultTypes": ["violations"], "iframes": False, "preload": False}  # it adds styles
        options["runOnly"] = {"type": "rule", "values": rules} if rules else {"type": "tag", "values": STANDARDS}
        if self.page.evaluate("typeof axe") == "undefined":
            self.page.evaluate(AXE_SCRIPT)
        found = self.page.evaluate("options => axe.run(options)", options)["violations"]
        return [
            f"{self.page.url}: {each['id']} ({each['impact']}): {each['help']}: {node['html'][:200]}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]


@contextmanager
def tab(browser: Browser, url: str, user: User | str | None = None, **options: Any) -> Iterator[Tab]:
    """A tab in a context of its own, in which `user` is signed in (or whose session this is); fails for what went wrong
    in it."""
    context = browser.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options})
    if user is not None:
        key = user if isinstance(user, str) else session(user)
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": key, "url": url}])
    opened = Tab(context, url)
    try:
        yield opened
    finally:
        context.close()
    assert not opened.wrong, opened.wrong


def session(user: User) -> str:
    """A new session's key."""
    client = Client()
    client.force_login(user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value


def person_of(tenant: Tenant, email: str = "ada@example.com", role: str = "owner", password: str = "") -> User:
    """Somebody with a role in the tenant."""
    user = User.objects.create_user(email, password or None)
    Membership.objects.create(tenant=tenant, user=user, role=role)
    return user


def jsonl(folder: Path, lines: list[dict[str, Any]], name: str = "batch.jsonl") -> Path:
    """A file of these lines, to upload."""
    path = folder / name
    path.write_text("".join(json.dumps(line) + os.linesep for line in lines))
    return path
