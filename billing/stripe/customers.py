"""Who a tenant is at Stripe: made once, and read again whenever something has happened to it."""

import secrets
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Q
from django.db.models.functions import Coalesce

from billing import customers
from billing.models import Customer
from billing.stripe import client
from billing.stripe.client import Object
from tenants import clock, holding
from tenants.models import Membership

SKEW = timedelta(minutes=10)  # between Stripe's clock and ours


class State(NamedTuple):
    """How a customer stood at Stripe at a moment: before it, we had not asked yet."""

    asked: datetime
    can_pay: bool
    past_due: bool


def known(stripe_id: object) -> Customer | None:
    """The customer row behind an id of Stripe's."""
    return Customer.objects.filter(stripe_id=stripe_id).first() if client.is_id(stripe_id) else None


def found_or_made(tenant: int) -> str:
    """The id of the tenant's customer at Stripe, made when it is first needed, and once. Raises client.Failed."""
    row = customers.of(tenant)
    if row.stripe_id:
        return row.stripe_id
    first = _asks_first(row)
    row.refresh_from_db()
    lost = holding.row().gap_from  # a state of the database that may have made one
    found = None if first and lost is None else _made_before(row, lost)
    found = found or client.create(
        lambda v1, options: v1.customers.create(_described(row), options),
        row.stripe_reference,
        1 if first else 2 + _hours(row),
    )
    Customer.objects.filter(pk=row.pk, stripe_id=None).update(stripe_id=found["id"])
    row.refresh_from_db()
    return row.stripe_id or ""


def _asks_first(row: Customer) -> bool:
    """Note that it is asked for from now on, under which name; False when it was asked for before."""
    reference = f"cust_{secrets.token_hex(12)}"
    rows = Customer.objects.filter(pk=row.pk, stripe_asked_at=None)
    return rows.update(stripe_asked_at=clock.now(), stripe_reference=reference) == 1


def _made_before(row: Customer, lost: datetime | None) -> Object | None:
    """What an earlier attempt made whose answer was lost, or a state of the database that was. From the list: Stripe's
    search lags behind."""
    asked = row.stripe_asked_at or clock.now()
    since = int((min(asked, lost or asked) - SKEW).timestamp())
    made = client.every(lambda v1: v1.customers.list({"created": {"gte": since}, "limit": 100}))
    named = {"customer": row.stripe_reference, "tenant": row.tenant.public_id}
    return next((each for each in made if any(each["metadata"].get(key) == name for key, name in named.items())), None)


def _hours(row: Customer) -> int:
    """Since it was first asked for: who asks at the same time asks for the same."""
    return int((clock.now() - row.stripe_asked_at).total_seconds()) // 3600 if row.stripe_asked_at else 0


def _described(row: Customer) -> Object:
    """Invoices by mail need an address: that of the tenant's first user, until Checkout asks for a better one."""
    members = Membership.objects.filter(tenant=row.tenant_id, user__is_active=True).order_by("pk")
    email = members.values_list("user__email", flat=True).first()
    names = {"customer": row.stripe_reference, "tenant": row.tenant.public_id}
    described = {"name": row.tenant.name, "metadata": names}
    return described | ({"email": email} if email else {})


def state(stripe_id: str) -> State:
    """How the customer stands at Stripe now. Raises client.Failed."""
    asked = clock.now()
    found = client.call(lambda v1: v1.customers.retrieve(stripe_id))
    opened = client.every(lambda v1: v1.invoices.list({"customer": stripe_id, "status": "open", "limit": 100}))
    return State(asked, can_pay(found), any(is_past_due(each, asked) for each in opened))


def can_pay(found: Object) -> bool:
    """Whether a customer has something that its invoices are charged to."""
    return bool((found.get("invoice_settings") or {}).get("default_payment_method") or found.get("default_source"))


def is_past_due(invoice: Object, now: datetime) -> bool:
    """Whether an invoice should have been paid: its charge failed, or its days are over."""
    if invoice["status"] != "open":
        return False
    due = invoice.get("due_date")
    failed = invoice.get("collection_method") == "charge_automatically" and invoice.get("attempted")
    return bool(failed or (due is not None and due < now.timestamp()))


def store(stripe_id: str, state: State) -> None:
    """Keep a state, unless one is kept that was asked for later."""
    older = Q(stripe_read_at=None) | Q(stripe_read_at__lt=state.asked)
    since = Coalesce("past_due_since", clock.now()) if state.past_due else None
    rows = Customer.objects.filter(older, stripe_id=stripe_id)
    rows.update(can_pay=state.can_pay, past_due_since=since, stripe_read_at=state.asked)


def forget(stripe_id: str) -> None:
    """It was deleted at Stripe: the tenant gets another one when it next needs one."""
    rows = Customer.objects.filter(stripe_id=stripe_id)
    rows.update(stripe_id=None, stripe_asked_at=None, stripe_reference="", can_pay=False, past_due_since=None)
