"""The operators' admin of tenants, people and keys, and the bases that the admin of every room is made of."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import AdminUserCreationForm
from django.contrib.auth.models import Group
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html

from tenants import keys, trail_admin
from tenants.models import ApiKey, AuditEvent, Invitation, Membership, Tenant, User

COUNTED = 10_000  # rows; beyond this a list is searched, not paged
INTERNAL_APPS = ("admin", "auth", "contenttypes", "sessions", "django_q")  # whose permissions nobody hands out


class CappedPaginator(Paginator):  # type: ignore[type-arg]  # generic in the stubs alone
    """Counts no further than COUNTED: to count a table of millions would take longer than to show the page."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        counted: int = rows.order_by()[:COUNTED].count()
        return counted


class Plain(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs alone
    """Newest first, cheap lists, and a change writes only the columns that were changed.

    `unseen` names columns that no page selects, shows or filters by (a filter would let them be guessed).
    """

    unseen: tuple[str, ...] = ()
    ordering = ("-pk",)
    show_full_result_count = False
    paginator = CappedPaginator
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer(*self.unseen)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return not lookup.startswith(self.unseen) and super().lookup_allowed(lookup, value, request)

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        obj.save(update_fields=self.changed_columns(obj, form) if change else None)

    def changed_columns(self, obj: Model, form: Any) -> set[str]:
        return {field.name for field in obj._meta.concrete_fields}.intersection(form.changed_data)


class ReadOnly(Plain):
    """Rows that the service alone writes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg]  # generic in the stubs alone
    model = Membership
    autocomplete_fields = ("user",)
    extra = 0


@admin.register(Tenant)
class TenantAdmin(trail_admin.TenantTrail, Plain):
    list_display = ("name", "plan", "limit", "weight", "reserved_slots", "suspended", "created_at")
    list_filter = ("plan", "suspended", "created_at")
    search_fields = ("name",)
    fields = (
        "name", "plan", "batch_limit", "enqueued_token_limit", "requests_per_minute", "weight", "reserved_slots",
        "suspended", "created_at",
    )  # fmt: skip
    readonly_fields = ("created_at",)
    inlines = (MembershipInline,)

    def has_delete_permission(self, request: HttpRequest, obj: Tenant | None = None) -> bool:
        """Its batches and its ledger stay: suspend it instead."""
        return False

    @admin.display(description="active batches at most")
    def limit(self, tenant: Tenant) -> str:
        return "no limit" if tenant.active_batch_limit is None else str(tenant.active_batch_limit)


@admin.register(Membership)
class MembershipAdmin(trail_admin.MembershipTrail, Plain):
    list_display = ("user", "tenant", "role")
    list_filter = ("role",)
    list_select_related = ("tenant", "user")
    search_fields = ("user__email", "tenant__name")
    fields = ("tenant", "user", "role")
    autocomplete_fields = ("tenant", "user")


@admin.register(Invitation)
class InvitationAdmin(ReadOnly):
    """Owners invite, and take it back; here it is seen."""

    list_display = ("email", "tenant", "role", "invited_by", "created_at", "expires_at", "closed_at", "accepted")
    list_filter = (("closed_at", admin.EmptyFieldListFilter), "role", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("email", "tenant__name")
    fields = readonly_fields = list_display
    unseen = ("digest",)


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnly):
    """What was done in tenants. The database itself keeps it as it is."""

    list_display = ("created_at", "tenant", "actor", "action", "target")
    list_filter = ("created_at", "action")
    list_select_related = ("tenant",)
    search_fields = ("actor", "target", "tenant__name")
    fields = readonly_fields = (*list_display, "details")


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnly):
    """Keys are made by `key create`, which shows them once. Here they are seen and revoked."""

    list_display = ("prefix", "tenant", "name", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter), "created_at", "last_used_at")
    search_fields = ("prefix", "name", "tenant__name")
    fields = readonly_fields = (
        "tenant", "name", "prefix", "scopes", "created_at", "last_used_at", "rotated_at", "expires_at", "revoked_at",
    )  # fmt: skip
    actions = ("revoke",)
    unseen = ("digest",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("tenant")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tenants.change_apikey")

    @admin.action(description="Revoke selected keys", permissions=["revoke"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[ApiKey]) -> None:
        actor = trail_admin.email(request)
        revoked = sum(keys.revoke_one(row, actor) for row in chosen.select_related("tenant"))
        level = messages.SUCCESS if revoked else messages.WARNING
        self.message_user(request, f"Revoked {revoked} of {chosen.count()} keys: the next request sees it.", level)


class _ForSuperusers(Plain):
    """Who may make people staff may make themselves anything: for superusers only, and nothing is deleted."""

    def _allowed(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.is_active and request.user.is_superuser

    has_module_permission = has_view_permission = has_add_permission = has_change_permission = _allowed

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **kwargs: Any) -> Any:
        field: Any = super().formfield_for_manytomany(db_field, request, **kwargs)
        if db_field.name in ("permissions", "user_permissions"):
            handed_out = field.queryset.exclude(content_type__app_label__in=INTERNAL_APPS)
            field.queryset = handed_out.select_related("content_type")
        return field


class NewUserForm(AdminUserCreationForm):  # type: ignore[type-arg]  # generic in the stubs alone
    class Meta:
        model = User
        fields = ("email",)

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).lower()


class UserForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """Without the password's hash, which Django's own form describes."""

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).lower()


@admin.register(User)
class PersonAdmin(_ForSuperusers, UserAdmin):  # type: ignore[type-arg]  # generic in the stubs alone
    """People sign in by e-mail. Somebody who leaves is made inactive."""

    form, add_form = UserForm, NewUserForm
    list_display = ("email", "first_name", "last_name", "is_active", "is_staff", "is_superuser", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser")
    search_fields = ("email", "first_name", "last_name")
    ordering = ("-pk",)
    readonly_fields = ("password_form", "last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("email", "password_form", "first_name", "last_name")}),
        ("Permissions", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        """Who has another address is not known by the old one any more: allauth keeps those that it saw."""
        super().save_model(request, obj, form, change)
        if "email" in form.changed_data:
            EmailAddress.objects.filter(user=obj).delete()

    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("email", "usable_password", "password1", "password2")}),)

    @admin.display(description="password")
    def password_form(self, user: User) -> str:
        url = reverse("admin:auth_user_password_change", args=[user.pk])
        return format_html('<a href="{}">Set a new password</a>', url)


for foreign in (Group, EmailAddress, Authenticator):  # the last holds secrets; who lost a device: docs/operating.md
    admin.site.unregister(foreign)


@admin.register(Group)
class RoleAdmin(_ForSuperusers, GroupAdmin):
    """Sets of permissions for staff who are not superusers."""

    list_display = ("name",)
