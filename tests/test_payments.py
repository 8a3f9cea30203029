"""Pages of Stripe's over HTTP: a payment method is left, credits are bought, the portal is opened."""

import json
from typing import Any

import pytest

from billing import ledger
from billing.models import Customer
from tests.conftest import Person
from tests.fakestripe import FakeStripe
from tests.stripes import USD, deliver

CHECKOUT, PORTAL = "/v1/billing/checkout", "/v1/billing/portal"
HOME = "http://testserver/"


def ask(person: Person, path: str, asked: Any = None, **headers: str) -> Any:
    body = asked if isinstance(asked, bytes) else json.dumps(asked or {}).encode()
    headers = {"Authorization": f"Bearer {person.key}", **headers}
    return person.client.post(path, body, content_type="application/json", headers=headers)


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_payment_method_is_left_and_charged(owner: Person, outsider: Person, stripe: FakeStripe) -> None:
    answer = owner.post(CHECKOUT, {"mode": "setup"})
    assert answer.status_code == 200, answer.content
    shown = answer.json()
    assert (shown["object"], shown["mode"], shown["url"]) == (
        "billing.checkout",
        "setup",
        f"https://checkout.example/{shown['id']}",
    )
    session = stripe.objects.all[shown["id"]]
    assert (session["success_url"], session["cancel_url"]) == (HOME, HOME)
    assert session["payment_method_types"] == ["card"]
    stripe.objects.complete(shown["id"])
    assert set(deliver(stripe)) == {200} and Customer.objects.get(tenant=owner.tenant).can_pay
    owner.post(CHECKOUT, {"mode": "setup"})
    outsider.post(CHECKOUT, {"mode": "setup"})
    assert len({customer["id"] for customer in stripe.objects.of("customer")}) == 2


def test_credits_are_bought_once(owner: Person, stripe: FakeStripe) -> None:
    asked = {
        "mode": "payment",
        "amount_usd": "50.25",
        "success_url": "https://a.example/thanks?id={CHECKOUT_SESSION_ID}",
    }
    session = ask(owner, CHECKOUT, asked | {"cancel_url": "http://localhost:3000/"}).json()
    assert stripe.objects.all[session["id"]]["cancel_url"] == "http://localhost:3000/"
    stripe.objects.complete(session["id"], paid=False)
    deliver(stripe)
    assert ledger.balance(owner.tenant.pk, "credits") == 0, "a bank transfer is under way"
    found = stripe.objects.all[session["id"]]
    stripe.objects.pay_session(found)
    stripe.objects.emit("checkout.session.async_payment_succeeded", found)
    stripe.objects.emit("checkout.session.completed", found)
    assert set(deliver(stripe)) == {200}
    assert ledger.balance(owner.tenant.pk, "credits") == 5025 * USD // 100
    assert ledger.balance(owner.tenant.pk, "cash") == -5025 * USD // 100


@pytest.mark.sqlite_only
def test_what_the_operator_sells_besides_is_no_credit(owner: Person, stripe: FakeStripe) -> None:
    session = stripe.objects.all[ask(owner, CHECKOUT, {"mode": "payment", "amount_usd": "5"}).json()["id"]]
    session["metadata"] = {}
    stripe.objects.complete(session["id"])
    assert set(deliver(stripe)) == {200} and ledger.balance(owner.tenant.pk, "credits") == 0


@pytest.mark.sqlite_only
def test_the_portal_is_opened(owner: Person, stripe: FakeStripe) -> None:
    answer = owner.post(PORTAL, {"return_url": "https://a.example/account"})
    assert answer.status_code == 200 and answer.json()["url"].startswith("https://portal.example/")
    assert ask(owner, PORTAL).status_code == 200
    assert [each["return_url"] for each in stripe.objects.of("billing_portal.session")] == [
        "https://a.example/account",
        HOME,
    ]


@pytest.mark.sqlite_only
def test_a_post_with_a_key_opens_one_page(owner: Person, outsider: Person, stripe: FakeStripe) -> None:
    asked, key = {"mode": "payment", "amount_usd": "5"}, {"Idempotency-Key": "k"}
    first, again, foreign = (ask(who, CHECKOUT, asked, **key).json()["id"] for who in (owner, owner, outsider))
    assert first == again != foreign
    assert code(ask(owner, CHECKOUT, asked | {"amount_usd": "6"}, **key)) == (422, "idempotency_key_reused")
    assert code(ask(owner, CHECKOUT, asked, **{"Idempotency-Key": "x" * 256})) == (400, "invalid_idempotency_key")


AMOUNTS: list[Any] = [
    None, 5, 5.0, "", "0", "0.99", "-5", "5.001", "1e3", "100000.01", "NaN", "٥", "5\x00", "5\n", "\ud800", ["5"], {}, True, "9" * 5_000,
]  # fmt: skip
ADDRESSES: list[Any] = [
    None, 5, "", "a.example", "//a.example/", "http://a.example/", "javascript:alert(1)", "https://", "https:///x", "https://a b/",
    "https://a.example/\r\nx", "https://a.example/\n", "https://a:b@a.example/", "https://[::1/", "https://a.example:x/", "https://bücher.example/",
    "http://localhost.a.example/", "http://localhost@a.example/", "https://a.example\\@b/", "https://a.example/\x00", "\ud800",
    "https://a.example/" + "x" * 2_000, "https://a.example:99999/", ["https://a.example/"], {},
]  # fmt: skip
REFUSED: list[tuple[Any, str]] = [
    ({}, "invalid_mode"), ({"mode": None}, "invalid_mode"), ({"mode": "subscription"}, "invalid_mode"), ({"mode": ["setup"]}, "invalid_mode"),
    ({"mode": {}}, "invalid_mode"), ({"mode": 5}, "invalid_mode"), ({"mode": "setup", "amount_usd": "5"}, "invalid_amount"),
    ({"mode": "payment"}, "invalid_amount"), *(({"mode": "payment", "amount_usd": each}, "invalid_amount") for each in AMOUNTS),
    *(({"mode": "setup", "success_url": each}, "invalid_return_url") for each in ADDRESSES),
    ({"mode": "setup", "cancel_url": "ftp://a.example/"}, "invalid_return_url"),
    ({"mode": "setup", "customer": "cus_1"}, "unsupported_parameter"), (b'{"mode": "setup", "mode": "setup"}', "duplicate_parameter"),
    (b"[]", "malformed_request"), (b"{", "malformed_request"), (b"[" * 100_000, "malformed_request"), (b"\xff", "malformed_request"),
]  # fmt: skip


@pytest.mark.sqlite_only
def test_what_is_wrong_is_said_and_stripe_not_asked(owner: Person, stripe: FakeStripe) -> None:
    for asked, wanted in REFUSED:
        assert code(ask(owner, CHECKOUT, asked)) == (400, wanted), asked
    assert code(ask(owner, PORTAL, {"return_url": "http://a.example/"})) == (400, "invalid_return_url")
    assert code(ask(owner, f"{CHECKOUT}?x=1", {"mode": "setup"})) == (400, "unsupported_parameter")
    assert stripe.calls == [] and not Customer.objects.exists()


@pytest.mark.sqlite_only
def test_without_a_key_nothing_can_be_paid(owner: Person, stripe: FakeStripe, settings: Any) -> None:
    settings.STRIPE_API_KEY = ""
    for path, asked in (
        (CHECKOUT, {"mode": "setup"}),
        (CHECKOUT, {"mode": "payment", "amount_usd": "5"}),
        (PORTAL, {}),
    ):
        assert code(ask(owner, path, asked)) == (409, "payments_not_configured")
    assert not Customer.objects.exists()


@pytest.mark.sqlite_only
def test_while_stripe_does_not_answer(owner: Person, stripe: FakeStripe, settings: Any, caplog: Any) -> None:
    stripe.faults = {0: "lost", 2: "500"}
    for _ in range(2):
        answer = owner.post(CHECKOUT, {"mode": "setup"})
        assert code(answer) == (503, "payments_unavailable") and answer["Retry-After"] == "30"
    assert owner.post(CHECKOUT, {"mode": "setup"}).status_code == 200 and len(stripe.objects.of("customer")) == 1
    settings.STRIPE_API_KEY = "sk_test_wrong_secret"
    assert code(owner.post(PORTAL)) == (503, "payments_unavailable")
    assert "sk_test" not in caplog.text
