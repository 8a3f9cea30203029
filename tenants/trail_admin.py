"""What staff change of a tenant in the admin is on the tenant's trail, by their e-mail address."""

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from tenants import trail
from tenants.models import Membership


def email(request: HttpRequest) -> str:
    """Who does it."""
    user: Any = request.user  # a User, as every staff member is one
    return str(user.email)


class TenantTrail:
    """For the admin of tenants, and of what stands in line on their page."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)  # type: ignore[misc]
        after = {name: form.cleaned_data[name] for name in form.changed_data}
        if not change:
            trail.record(obj, email(request), "tenant.created", obj.name, plan=obj.plan)
        elif after:
            differences = trail.differences({name: form.initial.get(name) for name in after}, after)
            trail.record(obj, email(request), "tenant.changed", obj.name, **differences)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        before = {row.instance.pk: row.initial for row in formset.initial_forms}
        super().save_formset(request, form, formset, change)  # type: ignore[misc]
        for place in formset.new_objects:
            added(request, place)
        for place, _ in formset.changed_objects:
            changed(request, before[place.pk], place)
        for place in formset.deleted_objects:
            removed(request, place)


class MembershipTrail:
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

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for place in queryset.select_related("tenant", "user"):
                removed(request, place)
            super().delete_queryset(request, queryset)  # type: ignore[misc]


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
