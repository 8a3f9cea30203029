"""The trail of everything: of tenants, and of what concerns none. The database itself keeps it as it is."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe

from tenants import trail
from tenants.console.pages import ReadOnly
from tenants.models import AuditEvent, Tenant
from tenants.web.trail import details

FOUND = 200  # tenants of a name


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
    search_fields = ("actor", "target")
    search_help_text = "A whole e-mail address, key's prefix, id, name: who did it, what it was done to, or the tenant."
    fields = readonly_fields = list_display

    def get_search_results(self, request: HttpRequest, rows: QuerySet[Any], term: str) -> tuple[QuerySet[Any], bool]:
        """Whole words, by the indexes."""
        if term := term.strip():
            tenants = list(Tenant.objects.filter(name__icontains=term).values_list("pk", flat=True)[:FOUND])
            rows = rows.filter(Q(actor=term) | Q(target=term) | Q(tenant_id__in=tenants))
        return rows, False

    @admin.display(description="what", ordering="action")
    def what(self, event: AuditEvent) -> str:
        return trail.ACTIONS.get(event.action, event.action)

    @admin.display(description="details")
    def told(self, event: AuditEvent) -> str:
        return format_html_join(mark_safe("<br>"), "{}", ((line,) for line in details(event)))
