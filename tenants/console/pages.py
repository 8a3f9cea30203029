"""The bases that the admin of every room is made of."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import IntegerField, Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode

from tenants.console import asking
from tenants.console.auditing import Audited
from tenants.console.choosing import Choosing
from tenants.console.searching import DIGITS, Searched


class Plain(Choosing, Searched, Audited, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs alone
    """Newest first, cheap lists; a change writes only the columns that were changed, and is on the trail.

    `unseen` names columns that no page selects, shows or filters by (a filter would let them be guessed). What an
    action of `asking` does to a row is a button on the row's page, too.
    """

    unseen: tuple[str, ...] = ()
    ordering = ("-pk",)
    change_form_template = "admin/row.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer(*self.unseen)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return not lookup.startswith(self.unseen) and super().lookup_allowed(lookup, value, request)

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        obj.save(update_fields=self.changed_columns(obj, form) if change else None)

    def changed_columns(self, obj: Model, form: Any) -> set[str]:
        return {field.name for field in obj._meta.concrete_fields}.intersection(form.changed_data)

    def told(self, row: Any) -> str:
        """What the page that asks says of a row, which actions are done to. No query."""
        return str(row)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Those that the person may do."""
        actions: dict[str, Any] = super().get_actions(request)
        return {name: action for name, action in actions.items() if asking.may(request, action[0])}

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        """What can be no row's id is none that was chosen; Django's own would ask the database for it, in vain."""
        posted: Any = request.POST.copy()
        posted.setlist(ACTION_CHECKBOX_NAME, list(filter(self._may_be_id, posted.getlist(ACTION_CHECKBOX_NAME))))
        request.POST = posted
        return super().response_action(request, queryset, *args, **kwargs)

    def _may_be_id(self, text: str) -> bool:
        if isinstance(self.opts.pk, IntegerField):
            return text.isascii() and text.isdigit() and len(text) <= DIGITS
        return text.isprintable()

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """What no column can hold is no row's id."""
        return None if "\0" in object_id else super().get_object(request, object_id, from_field)

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        shown = {"row_pk": object_id, "row_back": request.path}
        return super().change_view(request, object_id, form_url, (extra_context or {}) | shown)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        row = context["original"]
        context["row_actions"] = asking.buttons(self, request, row) if row else []
        return super().render_change_form(request, context, *args, **kwargs)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """What the trail has of it."""
        found = self.get_object(request, object_id)
        if found is None:
            raise Http404
        if not self.has_view_or_change_permission(request, found):
            raise PermissionDenied
        trail = reverse("admin:tenants_auditevent_changelist")
        return redirect(f"{trail}?{urlencode({'target__exact': self.target_of(found)})}")


class ReadOnly(Plain):
    """Rows that the service alone writes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
