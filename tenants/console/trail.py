"""The trail of everything: of tenants, and of what concerns none. The database itself keeps it as it is."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe

from tenants import trail
from tenants.console.pages import ReadOnly
from tenants.console.searching import TENANT
from tenants.models import AuditEvent
from tenants.web.trail import details


class Action(admin.SimpleListFilter):
    title = parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return sorted(trail.ACTIONS.items(), key=lambda action: action[1])

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.filter(action=self.value()) if self.value() else rows


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnly):
    list_display = ("created_at", "actor", "what", "target", "tenant", "told")
    list_filter = (Action, "created_at", ("tenant", admin.EmptyFieldListFilter))
    list_select_related = ("tenant",)
    search_fields = ("actor__exact", "target__exact", *TENANT)
    search_help_text = "A whole e-mail address, key's prefix, id, name: who did it, what it was done to, or the tenant."
    fields = readonly_fields = list_display

    @admin.display(description="what", ordering="action")
    def what(self, event: AuditEvent) -> str:
        return trail.ACTIONS.get(event.action, event.action)

    @admin.display(description="details")
    def told(self, event: AuditEvent) -> str:
        return format_html_join(mark_safe("<br>"), "{}", ((line,) for line in details(event)))
