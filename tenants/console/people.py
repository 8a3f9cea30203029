"""People and groups of staff: for superusers."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, AdminUserCreationForm
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html

from tenants import factors, trail
from tenants.console import auditing
from tenants.console.asking import Answer, asks
from tenants.console.pages import Plain
from tenants.models import User

INTERNAL_APPS = ("account", "admin", "auth", "contenttypes", "mfa", "sessions")  # whose permissions nobody hands out


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
            field.queryset = handed_out.exclude(content_type__model__in=("success", "failure"))  # of tasks: the same
            field.label_from_instance = lambda permission: permission.name
        return field


@asks(
    "Reset the second step",
    "tenants.change_user",
    "For {these} who lost a device: app, passkeys, security keys and recovery codes are taken away, and every session"
    " is ended. The password stays. Make sure by another way that it is they who ask.",
    reason="How you made sure.",
)
def reset_factors(request: HttpRequest, user: User, answer: Answer) -> None:
    removed, _ = factors.reset(user)
    details = {"removed": removed, "reason": answer.reason}
    trail.record(None, auditing.email(request), "person.factors_reset", user.email, **details)


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
    noun = "person"
    actions = (reset_factors,)
    is_small = True
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

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        if isinstance(form, AdminPasswordChangeForm):
            return {"password": auditing.HIDDEN}
        return super().construct_change_message(request, form, formsets, add)

    @transaction.atomic
    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        answer: HttpResponse = super().user_change_password(request, id, form_url)
        return answer

    @admin.display(description="password")
    def password_form(self, user: User) -> str:
        url = reverse("admin:auth_user_password_change", args=[user.pk])
        return format_html('<a href="{}">Set a new password</a>', url)


for foreign in (Group, EmailAddress, Authenticator):  # the last holds secrets; who lost a device: docs/operating.md
    admin.site.unregister(foreign)


@admin.register(Group)
class RoleAdmin(_ForSuperusers, GroupAdmin):
    """Sets of permissions for staff who are not superusers."""

    noun = "group"
    is_small = True
    list_display = ("name",)
