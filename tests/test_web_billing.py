"""The pages of money: their figures are the API's, to the last digit; only owners come to Stripe."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from batches.web import billing as pages
from batches.web.figures import dollars, percent
from billing import corrections, customers, invoicing, ledger, prices
from billing.ledger import Kind
from billing.models import Customer, Invoice, InvoicedEntry, LedgerEntry
from tenants.models import AuditEvent, Membership, User
from tests.conftest import Person
from tests.fakestripe import FakeStripe
from tests.stripes import USD, deliver, month
from tests.test_invoices import at, charge, taken
from tests.test_web import NAUGHTY, make_batches, member, shown
from tests.test_web_usage import figures
from tests.witness import Witness

__all__ = ["at"]
pytestmark = pytest.mark.sqlite_only  # what is shown is the same on any database
MOST_QUERIES = 10


def signed_in(person: Person, role: str) -> Client:
    user = User.objects.create_user(f"{role}@example.com")
    Membership.objects.create(tenant=person.tenant, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


def address(person: Person, rest: str = "") -> str:
    return f"/t/{person.tenant.public_id}/billing{rest}"


@pytest.fixture
def october(owner: Person, at: Any) -> Invoice:
    """Of 10.304000001251 USD, 4 of them paid by credits, with a correction; and something that is charged since."""
    day = date(2026, 10, 5)
    at(2026, 10, 5)
    ledger.post(owner.tenant.pk, Kind.CREDIT_GRANT, "welcome", 4 * USD, NAUGHTY)
    charge(owner, "batch_1", taken("org/a", day, 1_234 * USD), taken(NAUGHTY, day, 304 * 10**9))
    charge(owner, "batch_2", taken("org/a", day, 1_250), taken("org/a", date(2026, 10, 6), 1))
    charge(owner, "batch_3", taken("b", day, 5))
    corrections.take_back("batch_charge", "batch_3", "It was ours.")
    make_batches(owner.tenant, ended_at=datetime(2026, 10, 5, tzinfo=UTC), sla_met=True)
    at(2026, 11, 1)
    [invoice] = invoicing.close_all()
    at(2026, 11, 3, 12)
    ledger.post(owner.tenant.pk, Kind.CREDIT_GRANT, "more", 30 * USD)
    charge(owner, "batch_4", taken("org/a", date(2026, 11, 3), 42 * USD + 7))
    make_batches(owner.tenant, status="in_progress", reserved=2 * USD + 1, cost=USD + 3)
    return invoice


def amounts(found: Any) -> dict[str, Decimal]:
    """The amounts that the API says, by where they stand."""
    flat = {f"{part}.{name}": value for part in ("credits", "month") for name, value in found[part].items()}
    return {name: Decimal(value) for name, value in flat.items() if name.endswith("_usd") and value is not None}


def plain(cell: str) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", cell)).strip()


def rows(html: str, mark: str) -> list[list[str]]:
    """The cells of the rows that bear a mark, as text."""
    found = re.findall(rf"<tr [^>]*{mark}[^>]*>(.*?)</tr>", html, re.DOTALL)
    return [[plain(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)] for row in found]


def usd(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


# --- figures ----------------------------------------------------------------------------------------------------------


def test_how_a_tenant_stands_is_what_the_api_says(owner: Person, october: Invoice) -> None:
    client = member(owner.tenant)
    for limit, prepaid in ((None, False), (100 * USD, True), (45 * USD, False), (40 * USD, False), (0, False)):
        customers.change(owner.tenant.pk, "operator", monthly_limit=limit, prepaid=prepaid)
        html, said = shown(client, address(owner)), owner.get("/v1/billing").json()
        on_page, wanted = figures(html), amounts(said)
        left_out = set() if limit is not None else {"month.limit_usd", "month.available_usd"}
        assert {name: on_page[name] for name in wanted} == wanted
        assert set(on_page) - set(wanted) == {"uninvoiced"} and not left_out & set(on_page)
        assert ("prepaid" in html) == said["prepaid"]
    assert on_page["uninvoiced"] == 12 + Decimal("0.000000000007")


def test_what_is_on_no_invoice_yet_is_what_the_next_one_comes_to(owner: Person, october: Invoice, at: Any) -> None:
    months = [invoicing.uninvoiced(owner.tenant.pk, date(2026, 11, 1), latest) for latest in (None, october.month)]
    assert months[0] == months[1]
    shown_now = figures(shown(member(owner.tenant), address(owner)))["uninvoiced"]
    at(2026, 12, 1)
    [november] = invoicing.close_all()
    assert Decimal(november.due) / 10**12 == shown_now == 12 + Decimal("0.000000000007")


def test_the_alerts_and_the_bar(owner: Person, october: Invoice) -> None:
    customers.change(owner.tenant.pk, "operator", monthly_limit=50 * USD)
    Customer.objects.update(alerted_month=date(2026, 11, 1), alerted_percent=80)
    html = shown(member(owner.tenant), address(owner))
    assert "86.0% is spent" in html and [f"{share}% told" in html for share in (50, 80, 100)] == [True, True, False]
    assert 'class="charged" width="840"' in html and 'x="840" width="40"' in html
    Customer.objects.update(monthly_limit=USD)
    assert 'class="charged" width="1000"' in shown(signed_in(owner, "owner"), address(owner))


def test_an_invoice_is_what_the_api_says(owner: Person, october: Invoice) -> None:
    client, said = member(owner.tenant), owner.get(f"/v1/invoices/{october.public_id}").json()
    [listed] = rows(shown(client, address(owner)), "data-invoice")
    assert (listed[0], listed[1]) == ("October 2026", "To be paid")
    assert [usd(cell) for cell in listed[2:4]] == [Decimal(said["total_usd"]), Decimal(said["due_usd"])]
    html = shown(client, address(owner, f"/invoices/{october.public_id}"))
    assert figures(html) == {name: Decimal(said[name]) for name in ("total_usd", "due_usd")}
    names = ("requests", "input_tokens", "cached_tokens", "output_tokens", "amount_usd")
    lines = [[line["day"], *(Decimal(line[name]) for name in names)] for line in said["lines"]]
    assert [[row[0], *map(usd, row[2:])] for row in rows(html, 'class="line"')] == lines and len(lines) == 4
    sums = [usd(text) for text in re.findall(r"<div><dt>[^<]*</dt><dd>(-?[\d,.]+)</dd>", html)]
    assert sums == [Decimal(value) for value in said["sums"].values() if Decimal(value)]
    assert sum(sums) == Decimal(said["total_usd"])
    entries = owner.get(f"/v1/invoices/{october.public_id}/entries").json()["data"]
    assert [list(map(usd, row[-2:])) for row in rows(html, "data-entry")] == [
        [Decimal(entry["amount_usd"]), Decimal(entry["credits_usd"])] for entry in entries
    ]
    assert "24 hours: 1 of 1 batches" in html and "100.00%" in html


def test_its_documents_are_the_apis(owner: Person, october: Invoice) -> None:
    client, path = member(owner.tenant), f"/invoices/{october.public_id}"
    for ending in ("csv", "pdf"):
        mine, theirs = client.get(address(owner, f"{path}/{ending}")), owner.get(f"/v1{path}/{ending}")
        assert mine.status_code == 200 and mine.content == theirs.content
        for header in ("Content-Type", "Content-Disposition", "ETag"):
            assert mine[header] == theirs[header]
        again = client.get(address(owner, f"{path}/{ending}"), headers={"If-None-Match": mine["ETag"]})
        assert again.status_code == 304


def test_the_ledger_is_what_the_api_says(owner: Person, october: Invoice) -> None:
    client = member(owner.tenant)
    html, said = shown(client, address(owner, "/ledger")), owner.get("/v1/ledger").json()["data"]
    found = rows(html, "data-entry")
    assert [usd(row[3]) for row in found] == [Decimal(entry["amount_usd"]) for entry in said] and len(said) == 10
    assert sum(usd(row[4]) for row in found) == ledger.balance(owner.tenant.pk, "credits") / Decimal(10**12)
    assert {"Batch", "Credits given", "Correction of: Batch", "Rounding", "Paid by credits"} == {
        row[1] for row in found
    }
    assert [row[5] for row in found if "welcome" in row[2]] == ["2026-10"]
    assert html.count(f'href="{address(owner, f"/invoices/{october.public_id}")}"') == 1 + sum(
        "-10" in row[5] for row in found
    )
    [correction] = rows(shown(client, address(owner, "/ledger?kind=correction")), "data-entry")
    assert "batch_3" in correction[2] and "It was ours." in correction[2]
    about = rows(shown(client, address(owner, "/ledger?reference=batch_3")), "data-entry")
    assert len(about) == 2
    assert "no entries" in shown(client, address(owner, "/ledger?reference=%00"))


def test_entries_are_paged_without_a_gap(owner: Person, october: Invoice, monkeypatch: Any) -> None:
    monkeypatch.setattr("batches.web.invoices.PAGE", 3)
    client = member(owner.tenant)
    for path, count in (("/ledger", 10), (f"/invoices/{october.public_id}", 6)):
        seen: list[str] = []
        query: str | None = ""
        while query is not None:
            html = shown(client, address(owner, path) + query)
            seen += re.findall(r'data-entry="([^"]+)"', html)
            links = re.findall(r'rel="next" href="(\?[^"#]+)', html)
            query = links[0].replace("&amp;", "&") if links else None
        assert len(seen) == len(set(seen)) == count


def test_prices_are_the_apis(owner: Person, witness: Witness) -> None:
    prices.set_price("witness", "1.000001", "2", "0.5", 60)
    [model] = owner.get("/v1/models").json()["data"]
    [row] = rows(shown(member(owner.tenant), address(owner, "/prices")), "data-model")
    assert row[:2] == ["witness", "60%"]
    for cell, kind in zip(row[2:], ("input", "cached_input", "output"), strict=True):
        batch, standard = cell.split(" instead of ")
        assert [usd(batch), usd(standard)] == [Decimal(model["prices"][name][kind]) for name in ("batch", "standard")]


def test_amounts_are_written_out() -> None:
    assert [dollars(pico) for pico in (0, 1, -1, USD, -1_234_567 * USD - 5 * 10**11)] == [
        "0.00", "0.000000000001", "-0.000000000001", "1.00", "-1,234,567.50",
    ]  # fmt: skip
    assert [percent(*pair) for pair in ((0, 0), (1, 3), (2, 3), (3, 3), (10**30, 10**30))] == [
        "", "33.3%", "66.6%", "100.0%", "100.0%",
    ]  # fmt: skip


# --- who, and how much ------------------------------------------------------------------------------------------------


def test_nobody_sees_what_is_anothers(owner: Person, outsider: Person, october: Invoice) -> None:
    client, entry = member(outsider.tenant), LedgerEntry.objects.filter(tenant=owner.tenant)[0]
    foreign, unknown = october.public_id, "inv_" + "0" * 24
    for an_id in (foreign, unknown, "%00", "x" * 5_000):
        for path in (f"/invoices/{an_id}", f"/invoices/{an_id}/csv", f"/invoices/{an_id}/pdf", f"?after={an_id}"):
            assert client.get(address(outsider, path)).status_code == 404
    for name in (f"{entry.kind}:{entry.reference}", "%00", "x", "correction:" * 999):
        assert client.get(address(outsider, f"/ledger?after={name}")).status_code == 404
    assert client.get(address(outsider, "/ledger?kind=nonsense")).status_code == 400
    for path in ("", "/ledger", "/prices"):
        assert client.get(address(owner, path)).status_code == 404
        assert "batch_1" not in shown(client, address(outsider, path))


def test_a_page_says_what_comes_next(owner: Person) -> None:
    client = member(owner.tenant)
    assert "No month is closed yet" in shown(client, address(owner))
    assert "Nothing was posted yet" in shown(client, address(owner, "/ledger"))
    assert "no model for you yet" in shown(client, address(owner, "/prices"))


def test_many_invoices_and_entries_cost_no_more_queries(owner: Person, at: Any) -> None:
    at(2026, 11, 5)
    Invoice.objects.bulk_create(
        Invoice(tenant=owner.tenant, month=date(2023 + number // 12, number % 12 + 1, 1), due=USD, cents=100)
        for number in range(10, 46)
    )
    latest = Invoice.objects.order_by("-month")[0]
    entries = LedgerEntry.objects.bulk_create(
        LedgerEntry(tenant=owner.tenant, kind="batch_charge", reference=f"batch_{number}", amount=USD)
        for number in range(1_000)
    )
    InvoicedEntry.objects.bulk_create(
        InvoicedEntry(entry=entry, invoice=latest, tenant_id=latest.tenant_id) for entry in entries[:900]
    )
    client = member(owner.tenant)
    customers.change(owner.tenant.pk, "operator", monthly_limit=USD, prepaid=True)
    client.get(address(owner))
    after = f"batch_charge:batch_{700}"
    for path in ("", "/ledger", f"/ledger?after={after}", f"/invoices/{latest.public_id}?after={after}"):
        with CaptureQueriesContext(connection) as asked:
            html = shown(client, address(owner, path))
        assert len(asked) <= MOST_QUERIES, asked.captured_queries
        assert len(html) < 150_000
    seen, query = 0, ""
    for _ in range(3):
        html = shown(client, address(owner, query))
        seen += len(rows(html, "data-invoice"))
        query = "".join(re.findall(r'rel="next" href="[^?]*(\?[^"]+)', html))
    assert seen == 36 and query == "" and "so far" not in html


# --- Stripe -----------------------------------------------------------------------------------------------------------

FORMS: dict[str, dict[str, str]] = {"/payment_method": {}, "/credits": {"amount_usd": " 49.90 "}, "/portal": {}}


def test_only_owners_come_to_stripe(owner: Person, stripe: FakeStripe) -> None:
    for role in ("reader", "member"):
        client = signed_in(owner, role)
        html = shown(client, address(owner))
        assert 'method="post" action="/t/' not in html and "An owner of owner can" in html
        for path, form in FORMS.items():
            answer = client.post(address(owner, path), form, headers={"Accept": "text/html"})
            assert answer.status_code == 403 and b"role_insufficient" in answer.content
            assert client.get(address(owner, path)).status_code in (403, 405)
    assert stripe.calls == [] and not AuditEvent.objects.exists()


def test_owners_are_led_there_and_back(owner: Person, stripe: FakeStripe) -> None:
    client = signed_in(owner, "owner")
    html = shown(client, address(owner))
    assert all(f'action="{address(owner, path)}"' in html for path in FORMS)
    led = [client.post(address(owner, path), form) for path, form in FORMS.items()]
    made = [*stripe.objects.of("checkout.session"), *stripe.objects.of("billing_portal.session")]
    for answer, session, host in zip(led, made, ("checkout", "checkout", "portal"), strict=True):
        text, there = answer.content.decode(), f"https://{host}.example/{session['id']}"
        assert answer.status_code == 200 and f'href="{there}"' in text
        assert f'<meta http-equiv="refresh" content="0; url={there}">' in text
    setup, purchase, portal = made
    home = f"http://testserver{address(owner)}?back="
    assert (setup["success_url"], purchase["success_url"]) == (f"{home}method", f"{home}credits")
    assert {setup["cancel_url"], purchase["cancel_url"]} == {f"{home}cancelled"}
    assert portal["return_url"] == f"{home}portal" and setup["customer"] == purchase["customer"]
    said = AuditEvent.objects.order_by("pk").values_list("actor", "action", "target", "details")
    assert list(said) == [
        ("owner@example.com", "payment_method.asked", setup["id"], {}),
        ("owner@example.com", "credits.asked", purchase["id"], {"amount_usd": "49.90"}),
        ("owner@example.com", "portal.opened", portal["id"], {}),
    ]
    came_back = shown(client, purchase["success_url"].removeprefix("http://testserver"))
    assert "back from Stripe" in came_back and figures(came_back)["credits.balance_usd"] == 0
    stripe.objects.complete(purchase["id"])
    assert set(deliver(stripe)) == {200}
    assert figures(shown(client, address(owner)))["credits.balance_usd"] == Decimal("49.9")
    stripe.objects.complete(setup["id"])
    deliver(stripe)
    assert "On file" in shown(client, address(owner))


@pytest.mark.parametrize(
    "amount", ["", "0", "0.99", "-5", "5.001", "1e3", "100000.01", "5\x00", "٥", "9" * 9_999, NAUGHTY]
)
def test_an_amount_that_is_none_is_said_beside_it(owner: Person, stripe: FakeStripe, amount: str) -> None:
    answer = signed_in(owner, "owner").post(address(owner, "/credits"), {"amount_usd": amount})
    html = answer.content.decode()
    assert answer.status_code == 400 and "Write USD from 1 to 100,000" in html and 'aria-invalid="true"' in html
    assert stripe.calls == [] and "<script>" not in html
    if amount == "5.001":
        assert 'value="5.001"' in html, "what was typed is kept"


def test_while_stripe_does_not_answer_nothing_is_lost(owner: Person, stripe: FakeStripe) -> None:
    stripe.faults = {0: "500", 1: "500"}
    client = signed_in(owner, "owner")
    answer = client.post(address(owner, "/credits"), {"amount_usd": "50"})
    assert answer.status_code == 503 and b"Try again in a moment" in answer.content
    assert b'value="50"' in answer.content and not AuditEvent.objects.exists()
    stripe.faults = {}
    assert client.post(address(owner, "/credits"), {"amount_usd": "50"}).status_code == 200


def test_an_address_that_stripe_does_not_lead_back_to(owner: Person, stripe: FakeStripe, monkeypatch: Any) -> None:
    from billing.stripe import checkout, client

    def refuse(*_: Any) -> Any:
        failed = client.Failed("InvalidRequestError", 400, "url_invalid", None)
        failed.param = "return_url"
        raise failed

    monkeypatch.setattr(checkout, "portal", refuse)
    answer = signed_in(owner, "owner").post(address(owner, "/portal"))
    assert answer.status_code == 400 and b"Ask its operator to serve it by HTTPS" in answer.content


def test_without_stripe_there_are_statements_alone(owner: Person, stripe: FakeStripe, settings: Any) -> None:
    settings.STRIPE_API_KEY = ""
    client = signed_in(owner, "owner")
    html = shown(client, address(owner))
    assert "its invoices are statements" in html and 'action="/t/' not in html
    for path, form in FORMS.items():
        answer = client.post(address(owner, path), form)
        assert answer.status_code == 409 and b"Ask its operator how to pay" in answer.content


def test_past_due_has_its_cure(owner: Person, stripe: FakeStripe) -> None:
    invoice = month(owner, ("a", 4 * USD))
    Invoice.objects.update(stripe_url=f"https://invoice.example/{invoice.public_id}?a=1&b=2")
    Customer.objects.update_or_create(tenant=owner.tenant, defaults={"past_due_since": timezone.now()})
    html = shown(signed_in(owner, "owner"), address(owner))
    assert "An invoice is past due" in html and "add another payment method" in html
    assert f'href="https://invoice.example/{invoice.public_id}?a=1&amp;b=2"' in html and ">Pay</a>" in html
    assert "ask an owner of owner" in shown(signed_in(owner, "reader"), address(owner))


def test_what_back_says_is_ours(owner: Person) -> None:
    client = member(owner.tenant)
    for what in pages.BACK:
        assert "Stripe" in shown(client, address(owner, f"?back={what}"))
    assert "nonsense" not in shown(client, address(owner, "?back=nonsense"))
