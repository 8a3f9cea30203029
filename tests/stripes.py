"""What the tests of payments have in common: a month that was closed, and Stripe's webhooks as they come."""

import itertools
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.test import Client

from billing import invoicing, ledger
from billing.models import Customer, Invoice
from tenants import clock
from tests.conftest import Person
from tests.fakestripe import FakeStripe, signed
from tests.test_invoices import charge, taken

USD = 10**12
SEPTEMBER, OCTOBER = date(2026, 9, 1), date(2026, 10, 1)
WEBHOOK = "/stripe/webhook"
_numbers = itertools.count(1)


def month(person: Person, *models: tuple[str, int], first: date = OCTOBER) -> Invoice:
    """The invoice of a month in which these models took so many pico-USD."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clock, "now", lambda: datetime(first.year, first.month, 5, tzinfo=UTC))
        charge(person, f"batch_{next(_numbers)}", *(taken(model, first, pico) for model, pico in models))
    [invoice] = [invoice for invoice in invoicing.close_all() if invoice.tenant_id == person.tenant.pk]
    return invoice


def post(event: Any, **how: Any) -> int:
    """Bring a webhook; what is answered."""
    body, signature = signed(event, **how)
    return bring(body, signature)


def bring(body: bytes, signature: str) -> int:
    headers = {"Stripe-Signature": signature}
    client = Client(raise_request_exception=False)
    return int(client.post(WEBHOOK, body, content_type="application/json", headers=headers).status_code)


def deliver(stripe: FakeStripe) -> list[int]:
    """The webhooks of what has happened since the last time, in order."""
    fresh, stripe.pushed = stripe.objects.events[stripe.pushed :], len(stripe.objects.events)
    return [post(event) for event in fresh]


def status() -> str:
    return Invoice.objects.get().status


def past_due() -> bool:
    return Customer.objects.get().past_due_since is not None


def holdings(person: Person) -> dict[str, int]:
    return {account: ledger.balance(person.tenant.pk, account) for account in ("receivable", "cash", "credits", "loss")}
