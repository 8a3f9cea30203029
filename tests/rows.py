"""A row of every table, for the tests of the console."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.urls import reverse
from django_q.models import OrmQ, Schedule, Task

from batches.models import (
    Batch,
    Manifest,
    Permit,
    Result,
    Runner,
    Segment,
    SigningKey,
    Slice,
    Submission,
    Upstream,
    Usage,
    WebhookDelivery,
    WebhookEndpoint,
)
from billing import ledger, prices
from billing.models import Customer, Invoice, InvoicedEntry, LedgerEntry, StripeEvent, TenantDiscount
from tenants.models import ApiKey, AuditEvent, Invitation, Membership, Tenant, User
from tests.conftest import Person
from tests.test_web import make_batches

# what no page may show
UPSTREAM_KEY, STEP, LEASE, RUNNER = "sk-of-the-upstream", "step-token-xyz", "lease-token-xyz", "runner-token-xyz"
SIGNING, SIGNED_BEFORE, SENDING = "whsec_in-force", "whsec_of-before", "sending-token-xyz"
BODY = b"the-body-of-an-answer"
PICKLED = "what-a-task-is-called-with"


def bill(tenant: Tenant, batch: Batch) -> None:
    """A row of every table of the money."""
    day = batch.created_at.date()
    with transaction.atomic():
        ledger.charge_batch(tenant.pk, batch.public_id, batch.cost, [ledger.Taken("m", day, 1, 10, 0, 5, batch.cost)])
    invoice = Invoice.objects.create(tenant=tenant, month=day.replace(day=1), due=batch.cost, cents=150)
    InvoicedEntry.objects.create(entry=LedgerEntry.objects.get(), invoice=invoice, tenant_id=invoice.tenant_id)
    TenantDiscount.objects.create(tenant=tenant, discount=60)
    Customer.objects.create(tenant=tenant, stripe_id="cus_1", monthly_limit=10**12)
    StripeEvent.objects.create(event_id="evt_1", type="invoice.paid", created_at=batch.created_at)


def enqueue(moment: datetime) -> None:
    """A row of every table of the queue."""
    OrmQ.objects.create(key="chores", payload=PICKLED, lock=moment)
    Task.objects.create(
        id="0" * 32, name="a-task", func="batches.tasks.sweep", args=PICKLED, started=moment, stopped=moment
    )
    Schedule.objects.create(func="batches.tasks.sweep", schedule_type=Schedule.MINUTES, minutes=1, args=repr(PICKLED))


def hung(owner: Person) -> Batch:
    """A batch of the owner's on which a row of every model hangs."""
    key = ApiKey.objects.get(tenant=owner.tenant)
    [made] = make_batches(owner.tenant, api_key=key, status="in_progress", step_token=STEP, cost=1_500_000_000_000)
    now = made.created_at
    upstream = Upstream.objects.create(model="m", base_url="http://up/v1", api_key=UPSTREAM_KEY)
    runner = Runner.objects.create(token=RUNNER, host="h", pid=1, started_ticks=1, created_at=now, lease_until=now)
    Permit.objects.create(upstream=upstream, runner=runner, slots=3, wanted=4)
    parts = {"tenant": owner.tenant, "batch": made}
    Slice.objects.create(
        **parts, index=0, model="m", offset=0, length=9, lines=3, tokens=30, entries=BODY, runner=runner,
        lease_token=LEASE,
    )  # fmt: skip
    segment = Segment.objects.create(**parts, data=BODY)
    Result.objects.create(
        **parts, line=1, seq=1, custom_id="first of all", status_code=200, cost=2_500_000, finished_at=now,
        segment_id=segment.pk, offset=0, length=9,
    )  # fmt: skip
    Submission.objects.create(
        tenant=owner.tenant, api_key=key, key="k", state="kept", object_id=made.public_id, created_at=now
    )
    Usage.objects.create(**parts, api_key=key, model="m", day=now.date(), completed=1, cost=2_500_000)
    bill(owner.tenant, made)
    enqueue(now)
    signing_key = SigningKey.objects.create(key_id="0" * 16, public_key="key")
    Manifest.objects.create(**parts, key=signing_key, signed="{}", signature="signature")
    endpoint = WebhookEndpoint.objects.create(
        tenant=owner.tenant, url="https://example.com/", event_types="batch.failed", secret=SIGNING,
        previous_secret=SIGNED_BEFORE, created_at=now, updated_at=now,
    )  # fmt: skip
    WebhookDelivery.objects.create(
        tenant=owner.tenant, endpoint=endpoint, event_id="evt_1", event_type="batch.failed", subject=made.public_id,
        created_at=now, next_at=now, lease_token=SENDING,
    )  # fmt: skip
    prices.set_price("m", "0.15", "0.60")
    Membership.objects.create(tenant=owner.tenant, user=User.objects.create_user("ada@example.com"), role="owner")
    Invitation.objects.create(tenant=owner.tenant, email="bob@example.com", digest="d", expires_at=now)
    AuditEvent.objects.create(tenant=owner.tenant, actor="ada@example.com", action="key.created", target="pk-prov-x")
    return made


def url(model: Any, page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_{page}", args=args)
