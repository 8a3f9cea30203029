"""Tenants, with what this room knows of them: what they have stored, and how all of it is deleted when one leaves."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from batches import erasing_tenants, keeping
from tenants.console import auditing, places
from tenants.console.asking import Answer, asks
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


admin.site.unregister(Tenant)


@admin.register(Tenant)
class TenantAdmin(places.TenantAdmin):
    fields = (*places.TenantAdmin.fields, "stored")
    readonly_fields = (*places.TenantAdmin.readonly_fields, "stored")
    actions: Any = (*places.TenantAdmin.actions, erase)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change and "retention_days" in form.changed_data:
            keeping.shorten(obj)

    @admin.display(description="stored")
    def stored(self, tenant: Tenant) -> str:
        used = keeping.stored(tenant.pk) if tenant.pk else 0
        return f"{used:,} bytes of at most {tenant.stored_limit:,}; days that files are kept: {tenant.retention.days}"
