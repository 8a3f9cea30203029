"""What an export has of each row: what the API shows of it; where it shows nothing, the columns that are the tenant's.

Never keys, digests or secrets.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Model, QuerySet

from batches.api import ledger, serializers
from batches.models import Batch, Usage, WebhookDelivery, WebhookEndpoint
from billing import money
from billing.models import Customer, Invoice, LedgerEntry
from tenants.models import ApiKey, AuditEvent, Invitation, Membership, Tenant

Shown = dict[str, Any]


class Table(NamedTuple):
    """A file of the archive: a line for each of these rows."""

    name: str
    rows: QuerySet[Any]
    show: Callable[[Any], Shown]


def tables(tenant: Tenant) -> list[Table]:
    """Everything but the tenant itself and its files."""
    batches = Batch.objects.filter(tenant=tenant).annotate(**serializers.NAMED)
    ledger_rows = LedgerEntry.objects.filter(tenant=tenant).select_related("invoiced__invoice")
    return [
        Table("members.jsonl", Membership.objects.filter(tenant=tenant).select_related("user"), _member),
        Table("invitations.jsonl", Invitation.objects.filter(tenant=tenant).defer("digest"), _invitation),
        Table("keys.jsonl", ApiKey.objects.filter(tenant=tenant).defer("digest"), _key),
        Table("webhooks.jsonl", WebhookEndpoint.objects.filter(tenant=tenant), _endpoint),
        Table("webhook_deliveries.jsonl", _deliveries(tenant), _delivery),
        Table("batches.jsonl", batches, _batch),
        Table("usage.jsonl", Usage.objects.filter(tenant=tenant).select_related("batch", "api_key"), _usage),
        Table("ledger.jsonl", ledger_rows.prefetch_related("lines"), ledger.shown),
        Table("invoices.jsonl", Invoice.objects.filter(tenant=tenant), _invoice),
        Table("trail.jsonl", AuditEvent.objects.filter(tenant=tenant), _event),
    ]


def tenant(row: Tenant) -> Shown:
    customer = Customer.objects.filter(tenant=row).first()
    limit = customer.monthly_limit if customer else None
    return {
        "id": row.public_id,
        "name": row.name,
        "created_at": moment(row.created_at),
        "suspended": row.suspended,
        **_columns(row, "plan", "batch_limit", "enqueued_token_limit", "requests_per_minute", "weight"),
        "retention_days": row.retention.days,
        "storage_limit": row.stored_limit,
        "reserved_slots": row.reserved_slots,
        "prepaid": bool(customer and customer.prepaid),
        "monthly_limit_usd": None if limit is None else money.usd(limit),
        "stripe_customer": customer and customer.stripe_id,
    }


def moment(at: datetime | None) -> str | None:
    """ISO 8601, UTC."""
    return at.isoformat() if at else None


def _columns(row: Model, *names: str) -> Shown:
    found = {name: getattr(row, name) for name in names}
    return {name: moment(value) if isinstance(value, datetime) else value for name, value in found.items()}


def _deliveries(tenant: Tenant) -> QuerySet[WebhookDelivery]:
    return WebhookDelivery.objects.filter(tenant=tenant).select_related("endpoint")


def _member(row: Membership) -> Shown:
    return {"email": row.user.email, "role": row.role, "last_sign_in": moment(row.user.last_login)}


def _invitation(row: Invitation) -> Shown:
    return _columns(row, "email", "role", "invited_by", "created_at", "expires_at", "closed_at", "accepted")


def _key(row: ApiKey) -> Shown:
    times = ("created_at", "expires_at", "revoked_at", "rotated_at", "last_used_at")
    return {"prefix": row.prefix, "name": row.name, "scopes": row.scopes.split(), **_columns(row, *times)}


def _endpoint(row: WebhookEndpoint) -> Shown:
    return {
        "id": row.public_id,
        "event_types": row.event_types.split(),
        **_columns(row, "url", "name", "disabled_reason", "created_at", "updated_at"),
    }


def _delivery(row: WebhookDelivery) -> Shown:
    told = ("event_id", "event_type", "subject", "created_at", "state", "attempts", "last_at", "last_status")
    return {"webhook": row.endpoint.public_id, **_columns(row, *told)}


def _batch(row: Any) -> Shown:
    times = ("created_at", "in_progress_at", "cancelling_at", "finalizing_at", "ended_at", "deadline")
    return serializers.native(row) | _columns(row, *times)


def _usage(row: Usage) -> Shown:
    counts = ("completed", "failed", "input_tokens", "cached_tokens", "output_tokens")
    return {
        "day": row.day.isoformat(),
        "model": row.model,
        "batch": row.batch and row.batch.public_id,
        "key": row.api_key and row.api_key.prefix,
        **_columns(row, *counts),
        "cost_usd": money.usd(row.cost),
    }


def _invoice(row: Invoice) -> Shown:
    return {
        "id": row.public_id,
        "month": f"{row.month:%Y-%m}",
        "due_usd": money.usd(row.due),
        "total_usd": money.dollars(row.cents),
        **_columns(row, "status", "created_at", "settled_at", "sent_at"),
        "payment_url": row.stripe_url or None,
    }


def _event(row: AuditEvent) -> Shown:
    return _columns(row, "created_at", "actor", "action", "target", "details")
