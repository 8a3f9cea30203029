"""Usage and billing as people see them: a chart that is drawn, a month with its documents, the way to Stripe."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from batches import metering
from batches.models import Usage
from billing.models import Customer
from tests import browser, fakestripe
from tests.conftest import Person, serving
from tests.fakestripe import FakeStripe
from tests.stripes import USD, month

pytestmark = pytest.mark.sqlite_only
PIXELS = """canvas => {
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const colours = new Set();
    for (let at = 0; at < data.length; at += 4) if (data[at + 3] === 255) colours.add(data.slice(at, at + 3).join());
    return colours.size;
}"""


@pytest.fixture
def used(owner: Person) -> str:
    """The address of the tenant's pages; two models on this day."""
    day, taken = metering.today(), {"completed": 1_234, "input_tokens": 5_000_000, "cached_tokens": 1, "failed": 2}
    for model, cost in (("org/a", 1_234 * USD + 1), ("b", 700 * USD)):
        Usage.objects.create(tenant=owner.tenant, model=model, day=day, cost=cost, output_tokens=9, **taken)
    return f"/t/{owner.tenant.public_id}"


def test_a_chart_is_drawn_and_read(chromium: Browser, web_server: str, owner: Person, used: str) -> None:
    user = browser.person_of(owner.tenant, role="reader")
    with browser.tab(chromium, web_server, user) as tab:
        page = tab.open(f"{used}/usage")
        canvas = page.locator("#chart canvas")
        canvas.wait_for()
        assert canvas.evaluate(PIXELS) > 2, "two models have two colours"
        assert page.locator("#legend li").all_inner_texts() == ["org/a", "b"]
        day = metering.today().isoformat()
        assert point_at_today(page) == f"{day}: org/a 1,234.000000000001 · b 700.00"
        page.select_option("#metric", "completed")
        assert point_at_today(page) == f"{day}: org/a 1,234 · b 1,234"
        assert [row.split("\t")[-1] for row in page.inner_text("#usage tbody").splitlines()] == [
            "700.00",
            "1,234.000000000001",
        ]
        assert tab.accessible() == []
        page.click("#theme")
        assert page.locator("#chart canvas").count() == 1 and canvas.evaluate(PIXELS) > 2
        assert tab.accessible() == []


def point_at_today(page: Page) -> str:
    """What is read of the last bar."""
    box = page.locator("#chart .u-over").bounding_box()
    assert box
    page.mouse.move(box["x"] + 1, box["y"] + 20)
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + 20)
    return page.inner_text("#readout")


@pytest.fixture
def paid_server(stripe: FakeStripe, transactional_db: None) -> Iterator[str]:
    """The web server of an operator who takes payments."""
    with serving(STRIPE_API_KEY=fakestripe.KEY, STRIPE_API_BASE=stripe.url, STRIPE_WEBHOOK_SECRET="x") as address:
        yield address


def test_a_month_is_read_and_credits_are_bought(
    chromium: Browser, paid_server: str, owner: Person, stripe: FakeStripe, tmp_path: Path
) -> None:
    invoice = month(owner, ("org/a", 12 * USD + 1), ("b", USD), first=date(2026, 10, 1))
    user = browser.person_of(owner.tenant)
    with browser.tab(chromium, paid_server, user, color_scheme="dark") as tab:
        page = tab.open(f"/t/{owner.tenant.public_id}/billing")
        page.click("text=October 2026")
        assert page.inner_text("[data-figure=total_usd]") == "13.00"
        assert tab.accessible() == []
        for ending in ("PDF", "CSV"):
            with page.expect_download() as waited:
                page.click(f"main >> text={ending}")
            waited.value.save_as(tmp_path / ending)
            theirs = owner.get(f"/v1/invoices/{invoice.public_id}/{ending.lower()}")
            assert waited.value.suggested_filename == f"2026-10_{invoice.public_id}.{ending.lower()}"
            assert (tmp_path / ending).read_bytes() == theirs.content
        page.click("text=Billing >> nth=-1")
        page.route("https://checkout.example/**", lambda route: route.fulfill(body="Stripe's page"))
        page.fill("#amount", "5.001")
        page.click("text=Buy credits")
        assert "at most two decimals" in page.inner_text("#wrong") and page.input_value("#amount") == "5.001"
        assert tab.accessible() == []
        tab.wrong.clear()  # the browser tells of the 400
        page.fill("#amount", "50")
        page.click("text=Buy credits")
        page.wait_for_url("https://checkout.example/**")
        assert page.inner_text("body") == "Stripe's page"
        [session] = stripe.objects.of("checkout.session")
        page.goto(session["success_url"])
        assert "as soon as Stripe has confirmed" in page.inner_text("[role=status]")
    assert Customer.objects.get().stripe_id == session["customer"]
