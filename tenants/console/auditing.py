"""What staff change in the console is on the trail, by their e-mail address: what it was before, and what after.

What concerns a tenant is on that tenant's own trail, which its people read.
"""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.db.models import Manager, Model, QuerySet
from django.http import HttpRequest

from tenants import trail
from tenants.models import Membership, Tenant

HIDDEN = trail.HIDDEN


def email(request: HttpRequest) -> str:
    """Who does it."""
    user: Any = request.user  # a User, as every staff member is one
    return str(user.email)


def differences(form: Any) -> dict[str, Any]:
    """The details of a change that this form made; of a new row, what was typed."""
    fields = {name: field for name, field in form.fields.items() if name in form.changed_data}
    before = {name: _worded(field, form.get_initial_for_field(field, name)) for name, field in fields.items()}
    return trail.differences(
        before, {name: _worded(field, form.cleaned_data.get(name)) for name, field in fields.items()}
    )


def _worded(field: forms.Field, value: Any) -> Any:
    """A field's value as JSON; a secret is never among it."""
    if isinstance(field.widget, forms.PasswordInput):
        return HIDDEN if value else None
    if isinstance(field, forms.ModelChoiceField) and not isinstance(value, Model | QuerySet | list | None):
        value = field.queryset.filter(pk=value).first() if field.queryset is not None else value
    if isinstance(value, QuerySet | Manager | list | tuple | set):
        return sorted(str(each) for each in (value.all() if isinstance(value, QuerySet | Manager) else value))
    return value if isinstance(value, str | int | float | bool | None) else str(value)


class Audited:
    """For an admin: whatever its forms add, change and delete is on the trail as `<noun>.created`, `.changed`,
    `.deleted`. Django's own log, which anybody may empty, is not written."""

    noun = ""

    def tenant_of(self, obj: Any) -> Tenant | None:
        """On whose trail it is; None is the operators' alone."""
        return None

    def target_of(self, obj: Any) -> str:
        """What it is called there."""
        return str(obj)

    def note(self, request: HttpRequest, obj: Any, verb: str, details: dict[str, Any]) -> None:
        trail.record(self.tenant_of(obj), email(request), f"{self.noun}.{verb}", self.target_of(obj), **details)

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """What `log_addition` and `log_change` are called with."""
        return differences(form) if form is not None else {}

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self.note(request, obj, "created", message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        if message:
            self.note(request, obj, "changed", message)

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Any]) -> Any:
        for obj in queryset:
            self.note(request, obj, "deleted", {})


class Untold(Audited):
    """For an admin whose rooms note what they do themselves."""

    def note(self, request: HttpRequest, obj: Any, verb: str, details: dict[str, Any]) -> None:
        pass


class AuditedPlaces:
    """For the admin of tenants: the memberships that stand in line on their page."""

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        before = {row.instance.pk: row.initial for row in formset.initial_forms}
        super().save_formset(request, form, formset, change)  # type: ignore[misc]
        for place in formset.new_objects:
            added(request, place)
        for place, _ in formset.changed_objects:
            changed(request, before[place.pk], place)
        for place in formset.deleted_objects:
            removed(request, place)


class AuditedPlace(Untold):
    """For the admin of memberships."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)  # type: ignore[misc]
        if change:
            changed(request, form.initial, obj)
        else:
            added(request, obj)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        removed(request, obj)
        super().delete_model(request, obj)  # type: ignore[misc]


def added(request: HttpRequest, place: Membership) -> None:
    trail.record(place.tenant, email(request), "member.added", place.user.email, role=place.role)


def removed(request: HttpRequest, place: Membership) -> None:
    trail.record(place.tenant, email(request), "member.removed", place.user.email, role=place.role)


def changed(request: HttpRequest, before: dict[str, Any], place: Membership) -> None:
    """Another role; or a place moved to another tenant or person, which takes it from one and gives it to the other."""
    tenant, user = before.get("tenant", place.tenant_id), before.get("user", place.user_id)
    if (tenant, user) != (place.tenant_id, place.user_id):
        former = Membership(tenant_id=tenant, user_id=user, role=before["role"])
        removed(request, former)
        added(request, place)
    elif before["role"] != place.role:
        trail.record(
            place.tenant,
            email(request),
            "member.role_changed",
            place.user.email,
            before=before["role"],
            after=place.role,
        )
