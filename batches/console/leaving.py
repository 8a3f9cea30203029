"""What staff do to a tenant that leaves: delete all that it has here."""

from typing import Any

from django.http import HttpRequest

from batches import erasing_tenants
from tenants.console import auditing
from tenants.console.asking import Answer, asks
from tenants.console.places import TenantAdmin
from tenants.models import Tenant


def _unerasable(tenant: Tenant) -> str | None:
    refused = erasing_tenants.refusal(tenant)
    return refused.message if refused else None


@asks(
    "Erase",
    "tenants.erase_tenant",
    "Everything that {these} sent and was answered is deleted for good: files, metadata, webhooks, keys, seats, and the"
    " accounts of people who belong nowhere else. Ledger, invoices, usage and the audit trail stay.",
    reason="It stays on the audit trail, where nobody changes it: write no names.",
    unless=_unerasable,
    few=1,
)
def erase(request: HttpRequest, tenant: Tenant, answer: Answer) -> str:
    gone = erasing_tenants.erase(tenant, auditing.email(request), reason=answer.reason)
    return f"Erased: {gone.batches} batches, {gone.files} other files, {gone.people} people."


offered: Any = TenantAdmin
offered.actions = (*offered.actions, erase)  # that room knows of no batches
