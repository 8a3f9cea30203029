"""Batches: what a shift sees of them and does to them. Nothing is edited: they change through their lifecycle."""

from functools import partial
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import BooleanField, ExpressionWrapper, QuerySet
from django.http import HttpRequest
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.text import Truncator

from batches import expecting
from batches.console import finding, glass, levers, panel
from batches.console.finding import NAMED
from batches.models import Batch
from billing import money
from tenants import clock
from tenants.console.pages import ReadOnly
from tenants.models import Tenant

SHOWN = 2_000  # characters of a long text
UNSEEN = ("secret", "step_token")
LONG = ("errors", "metadata", "rates")


def _shown(text: str) -> str:
    return Truncator(text).chars(SHOWN)


@admin.register(Batch)
class BatchAdmin(ReadOnly):
    """A batch's status changes through its lifecycle alone: what staff may do is in levers.py."""

    list_display = ("public_id", "tenant", "state", "progress", "end", "model", "cost_usd", "created_at")
    list_filter = ("status", finding.Trouble, "created_at")
    search_fields = ("public_id",)
    search_help_text = finding.HELP
    readonly_fields = (
        "public_id", "tenant", "api_key", "status", "paused_reason", "raised", "retried", "endpoint", "model",
        "input_file",
        "results_file", "output_file", "error_file", "receipts_file", "rows", "on_invalid_line", "max_cost_usd",
        "max_error_rate",
        "metadata_shown", "errors_shown", "created_at", "deadline", "expected_at", "waiting_reason", "at_risk",
        "in_progress_at", "last_result_at",
        "cancelling_at", "expiring_at", "finalizing_at", "ended_at", "erased_at", "step_until", "step_attempts",
        "total", "completed", "failed", "wasted", "input_tokens", "cached_tokens", "output_tokens", "cost_usd",
        "reserved_usd", "rates_shown", "held_back", "sla_met", "sla_credit_usd",
    )  # fmt: skip
    fieldsets = (
        (None, {"fields": (("public_id", "tenant", "api_key"), ("status", "paused_reason", "raised"),
            ("endpoint", "model"), ("retried", "rows"))}),
        ("Progress", {"fields": (("total", "completed", "failed", "wasted"), "waiting_reason", "errors_shown")}),
        ("Files", {"fields": (("input_file", "results_file"), ("output_file", "error_file"), "receipts_file")}),
        ("Tokens and cost", {"fields": (("input_tokens", "cached_tokens", "output_tokens"),
            ("cost_usd", "reserved_usd"), "rates_shown")}),
        ("Times", {"fields": (("created_at", "in_progress_at", "last_result_at"),
            ("deadline", "expected_at", "at_risk"),
            ("cancelling_at", "expiring_at"), ("finalizing_at", "ended_at", "erased_at"),
            ("step_until", "step_attempts"))}),
        ("24 hours", {"fields": (("held_back", "sla_met", "sla_credit_usd"),)}),
        ("Sent by the tenant", {"fields": (("on_invalid_line", "max_cost_usd", "max_error_rate"), "metadata_shown")}),
    )  # fmt: skip
    sortable_by = ()
    change_form_template = "admin/batches/batch/page.html"
    actions = (
        levers.cancel,
        levers.pause,
        levers.go_on,
        levers.raise_priority,
        levers.lower_priority,
        levers.retry,
        levers.erase,
    )
    unseen = UNSEEN

    class Media:
        css: ClassVar[dict[str, tuple[str, ...]]] = {"all": ("css/console_batches.css",)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        risk = ExpressionWrapper(expecting.at_risk(clock.now()), BooleanField())
        rows: QuerySet[Any] = super().get_queryset(request).annotate(risk=risk)
        return rows.select_related("tenant", "api_key__tenant").defer(*LONG, "api_key__digest")

    def get_urls(self) -> list[Any]:
        look = self.admin_site.admin_view(partial(glass.look, admin=self))
        return [path("<int:pk>/line/", look, name="batches_batch_glass"), *super().get_urls()]

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """With all that its page shows, at once."""
        whole = self.get_queryset(request).defer(None).defer(*UNSEEN, "api_key__digest").select_related(*NAMED)
        try:
            return whole.get(pk=object_id)
        except (Batch.DoesNotExist, ValueError, OverflowError):
            return None

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        found = panel.of(context["original"], clock.now())
        context |= {
            "panel": found,
            "held": [(each, panel.lease(each, found.how.now)) for each in found.how.cut.held],
            "may_see_upstreams": request.user.has_perm("batches.view_upstream"),
            "may_break_glass": request.user.has_perm(glass.PERMISSION),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    def get_search_results(self, request: HttpRequest, rows: QuerySet[Any], term: str) -> tuple[QuerySet[Any], bool]:
        """By the indexes alone."""
        return rows.filter(finding.matching(term)), False

    def tenant_of(self, obj: Any) -> Tenant:
        found: Tenant = obj.tenant
        return found

    def told(self, row: Any) -> str:
        return levers.told(row)

    @admin.display(description="state")
    def state(self, batch: Batch) -> str:
        return panel.state(batch)

    @admin.display(description="lines done")
    def progress(self, batch: Batch) -> str:
        return panel.done(batch)

    @admin.display(description="end")
    def end(self, batch: Any) -> str:
        return panel.end(batch, timezone.now())

    @admin.display(description="SLA credit, USD")
    def sla_credit_usd(self, batch: Batch) -> str:
        return money.usd(batch.sla_credit)

    @admin.display(description="cost, USD", ordering="cost")
    def cost_usd(self, batch: Batch) -> str:
        return money.usd(batch.cost)

    @admin.display(description="reserved, USD", ordering="reserved")
    def reserved_usd(self, batch: Batch) -> str:
        return money.usd(batch.reserved)

    @admin.display(description="retry of")
    def retried(self, batch: Batch) -> str:
        """The id alone: the other row has a secret of its own."""
        if batch.retry_of_id is None:
            return ""
        return Batch.objects.values_list("public_id", flat=True).get(pk=batch.retry_of_id)

    @admin.display(description="cost cap, USD")
    def max_cost_usd(self, batch: Batch) -> str:
        return "" if batch.max_cost is None else money.usd(batch.max_cost)

    @admin.display(description="deadline at risk", boolean=True)
    def at_risk(self, batch: Any) -> bool:
        return bool(batch.risk)

    @admin.display(description="errors")
    def errors_shown(self, batch: Batch) -> str:
        return _shown(batch.errors)

    @admin.display(description="metadata")
    def metadata_shown(self, batch: Batch) -> str:
        return _shown(batch.metadata)

    @admin.display(description="rates, pico-USD per million tokens")
    def rates_shown(self, batch: Batch) -> str:
        return _shown(batch.rates)

    @admin.display(description="rows")
    def rows(self, batch: Batch) -> str:
        names = ("result", "slice", "segment")
        lists = [(reverse(f"admin:batches_{name}_changelist"), batch.pk, name) for name in names]
        return format_html_join(", ", '<a href="{}?batch__id__exact={}">{}s</a>', lists)
