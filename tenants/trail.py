"""The trail of what was done in a tenant: written in the transaction that does it, and never changed."""

from typing import Any

from tenants.models import AuditEvent, Tenant

OPERATOR = "operator"  # by a command


def record(tenant: Tenant, actor: str, action: str, target: str, **details: Any) -> None:
    """Note that `actor` (an e-mail address, a key's prefix, OPERATOR) did `action` to `target`.

    `details` are values of JSON: before and after, never a secret or a prompt.
    """
    AuditEvent.objects.create(tenant=tenant, actor=actor, action=action, target=target[:254], details=details)
