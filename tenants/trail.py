"""The trail of what was done in a tenant, or by the operators: written in the transaction that does it, never changed.

Every action there is stands in ACTIONS, with its words. Signing in and out is not among them: no tenant is changed by
it.
"""

from collections.abc import Mapping
from typing import Any

from tenants.models import AuditEvent, Tenant

OPERATOR = "operator"  # by a command
SERVICE = "service"  # by itself, when it is time
STRIPE = "stripe"  # as it was done there
HIDDEN = "(not shown)"  # in place of a secret
ACTIONS = {
    "tenant.created": "Tenant created",
    "tenant.changed": "Tenant changed",
    "tenant.erased": "All data of the tenant deleted",
    "tenant.exported": "Data of the tenant taken along",
    "customer.changed": "Way of paying changed",
    "credits.asked": "Page to buy credits opened",
    "portal.opened": "Payment portal opened",
    "member.added": "Member added",
    "member.joined": "Member joined",
    "member.left": "Member left",
    "member.removed": "Member removed",
    "member.role_changed": "Member's role changed",
    "invitation.created": "Invitation sent",
    "invitation.resent": "Invitation sent again",
    "invitation.taken_back": "Invitation taken back",
    "key.created": "API key created",
    "key.rotated": "API key rotated",
    "key.revoked": "API key revoked",
    "file.uploaded": "File uploaded",
    "file.deleted": "File deleted",
    "batch.submitted": "Batch submitted",
    "batch.cancelled": "Batch cancelled",
    "batch.paused": "Batch paused",
    "batch.resumed": "Batch resumed",
    "batch.raised": "Batch's priority raised",
    "batch.lowered": "Batch's priority lowered",
    "batch.retried": "Batch retried",
    "batch.erased": "Batch's data deleted",
    "glass.broken": "Staff asked to see a prompt and answer",
    "glass.empty": "Nothing was found to show to staff",
    "webhook.created": "Webhook endpoint created",
    "webhook.changed": "Webhook endpoint changed",
    "webhook.secret_rotated": "Webhook secret rotated",
    "webhook.deleted": "Webhook endpoint deleted",
    "delivery.replayed": "Webhook event sent again",
    "person.created": "Person made",
    "person.changed": "Person changed",
    "person.factors_reset": "Person's second step reset",
    "upstream.created": "Upstream added",
    "upstream.changed": "Upstream changed",
    "upstream.deleted": "Upstream deleted",
    "upstream.severed": "Upstream switched off at once",
    "upstream.drained": "Upstream drained",
    "upstream.enabled": "Upstream enabled",
    "upstream.tested": "Upstream tested",
    "price.created": "Price set",
    "credit.created": "Credits given",
    "ledger.corrected": "Entry of the ledger taken back",
    "invoice.created": "Invoice made",
    "invoice.paid": "Invoice paid",
    "invoice.written_off": "Invoice written off",
    "invoice.sent": "Invoice to be sent to Stripe",
    "hold.begun": "Service holds",
    "hold.ended": "Service works again",
    "batch.adopted": "Batch ended by its stored results",
    "batch.handed_back": "Batch handed back after a restore",
    "batch.sent_again": "Batch to be sent again after a restore",
    "group.created": "Group of staff made",
    "group.changed": "Group of staff changed",
}


def record(tenant: Tenant | None, actor: str, action: str, target: str, **details: Any) -> None:
    """Note that `actor` (an e-mail address, a key's prefix, OPERATOR and the like) did `action` to `target`: on the
    trail of `tenant`, or on the operators' own.

    `details` are values of JSON: never a secret or a prompt. `before` and `after` are read as a change of one thing, or
    of those that they name.
    """
    AuditEvent.objects.create(tenant=tenant, actor=actor, action=action, target=target[:254], details=details)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The details of a change: what differs, before and after. Empty when nothing does."""
    names = [name for name in after if before.get(name) != after[name]]
    if not names:
        return {}
    return {"before": {name: before.get(name) for name in names}, "after": {name: after[name] for name in names}}
