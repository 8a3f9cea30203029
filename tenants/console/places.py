"""Tenants, who belongs to them, who is invited."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from tenants import admission, trail
from tenants.console import auditing
from tenants.console.asking import Answer, LeftAlone, asks
from tenants.console.choosing import Choosing
from tenants.console.pages import Plain, ReadOnly
from tenants.console.searching import TENANT
from tenants.models import Invitation, Membership, Tenant

READ = "The tenant's people read it."


class TenantForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs alone
    class Meta:
        model = Tenant
        fields = (
            "name", "plan", "batch_limit", "enqueued_token_limit", "requests_per_minute", "retention_days",
            "storage_limit", "weight", "reserved_slots",
        )  # fmt: skip


class PlaceForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """One of many in line: the person is read with the rest."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk and "user" in self.fields:
            choice: Any = self.fields["user"].widget
            choice.widget.known = {str(self.instance.user_id): str(self.instance.user)}


class MembershipInline(Choosing, admin.TabularInline):  # type: ignore[type-arg]  # generic in the stubs alone
    model = Membership
    form = PlaceForm
    autocomplete_fields = ("user",)
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("user", "tenant")


def _suspend(request: HttpRequest, tenant: Tenant, suspended: bool, reason: str) -> None:
    """Raises LeftAlone when it is so already."""
    row = admission.lock(tenant.pk)
    if row.suspended == suspended:
        raise LeftAlone("It is suspended already." if suspended else "It is not suspended.")
    Tenant.objects.filter(pk=tenant.pk).update(suspended=suspended)
    changes = {"before": {"suspended": not suspended}, "after": {"suspended": suspended}}
    trail.record(row, auditing.email(request), "tenant.changed", row.name, reason=reason, **changes)


@asks(
    "Suspend",
    "tenants.change_tenant",
    "The keys of {these} are answered 403 from now on. What is in flight is finished; nothing more of their batches is"
    " sent, and their 24 hours are no longer promised. Their people can read and pay.",
    reason=READ,
    unless=lambda tenant: "It is suspended already." if tenant.suspended else None,
)
def suspend(request: HttpRequest, tenant: Tenant, answer: Answer) -> None:
    _suspend(request, tenant, True, answer.reason)


@asks(
    "Resume",
    "tenants.change_tenant",
    "{these}: keys work again, and waiting batches go on. Their deadlines have stayed what they were.",
    reason=READ,
    unless=lambda tenant: None if tenant.suspended else "It is not suspended.",
    is_mild=True,
)
def resume(request: HttpRequest, tenant: Tenant, answer: Answer) -> None:
    _suspend(request, tenant, False, answer.reason)


@admin.register(Tenant)
class TenantAdmin(auditing.AuditedPlaces, Plain):
    """Its limits are changed here; to be suspended is asked for by itself."""

    form = TenantForm
    noun = "tenant"
    is_small = True
    list_display = ("name", "plan", "limit", "weight", "reserved_slots", "suspended", "created_at")
    list_filter = ("plan", "suspended", "created_at")
    search_fields = ("name", "public_id__exact")
    search_help_text = "A part of the name, or the whole id."
    fields: ClassVar[Any] = (*TenantForm.Meta.fields, "suspended", "public_id", "created_at")
    readonly_fields: ClassVar[Any] = ("suspended", "public_id", "created_at")
    inlines = (MembershipInline,)
    actions: Any = (suspend, resume)

    def tenant_of(self, obj: Any) -> Tenant:
        found: Tenant = obj
        return found

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        """Who may see memberships may not see them all the same in a place that they may change."""
        return self.inlines if request.user.has_perm("tenants.view_membership") else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Its batches and its ledger stay: suspend it instead."""
        return False

    @admin.display(description="active batches at most")
    def limit(self, tenant: Tenant) -> str:
        return "no limit" if tenant.active_batch_limit is None else str(tenant.active_batch_limit)


@admin.register(Membership)
class MembershipAdmin(auditing.AuditedPlace, Plain):
    is_small = True
    list_display = ("user", "tenant", "role")
    list_filter = ("role",)
    list_select_related = ("tenant", "user")
    search_fields = ("user__email", *TENANT)
    search_help_text = "A part of a person's e-mail address, or of a tenant's name."
    fields = ("tenant", "user", "role")
    autocomplete_fields = ("tenant", "user")


@admin.register(Invitation)
class InvitationAdmin(ReadOnly):
    """Owners invite, and take it back; here it is seen."""

    list_display = ("email", "tenant", "role", "invited_by", "created_at", "expires_at", "closed_at", "accepted")
    list_filter = (("closed_at", admin.EmptyFieldListFilter), "role", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("email", *TENANT)
    search_help_text = "A part of an e-mail address, or of a tenant's name."
    is_small = True
    fields = readonly_fields = list_display
    unseen = ("digest",)
