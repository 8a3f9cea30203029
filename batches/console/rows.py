"""The rows of batches: seen, not edited.

Bodies, plans, keys and secrets are left in the database: no page here selects those columns.
"""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from batches.console.jobs import LONG, UNSEEN
from batches.models import File, Result, Segment, Slice, Submission, Usage
from billing import money
from tenants.console.pages import ReadOnly
from tenants.console.searching import TENANT


@admin.register(File)
class FileAdmin(ReadOnly):
    list_display = ("public_id", "tenant", "purpose", "filename", "bytes", "lines", "created_at", "expires_at")
    list_filter = ("created_at",)
    list_select_related = ("tenant",)
    search_fields = ("public_id__startswith", *TENANT)
    search_help_text = "A file's id or how it begins, or a tenant's name."
    fields = readonly_fields = (
        "public_id", "tenant", "purpose", "filename", "bytes", "lines", "sha256", "storage_key",
        "created_at", "expires_at",
    )  # fmt: skip


@admin.register(Submission)
class SubmissionAdmin(ReadOnly):
    """What POSTs came to, for as long as the same ones may be sent again."""

    list_display = ("key", "tenant", "state", "object_id", "retry", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("key__exact", *TENANT)
    search_help_text = "A whole Idempotency-Key, or a tenant's name."
    fields = readonly_fields = (*list_display, "fingerprint", "outline")


class _OfBatch(ReadOnly):
    """Rows of which a batch has many: found by its id."""

    search_fields: ClassVar[Any] = ("batch__public_id__exact",)
    search_help_text = "The id of a batch, whole."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request).select_related("tenant", "batch")
        return rows.defer(*(f"batch__{name}" for name in UNSEEN + LONG))


@admin.register(Slice)
class SliceAdmin(_OfBatch):
    list_display = ("batch", "index", "tenant", "model", "lines", "tokens", "state", "attempts", "lease_until")
    list_filter = ("state",)
    fields = readonly_fields = (
        "batch", "index", "tenant", "model", "offset", "length", "lines", "tokens", "state", "attempts", "runner",
        "lease_until", "not_before",
    )  # fmt: skip
    unseen = ("entries", "carried", "lease_token")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("runner").defer("runner__token")


@admin.register(Segment)
class SegmentAdmin(_OfBatch):
    list_display = ("id", "batch", "tenant")
    fields = readonly_fields = ("id", "batch", "tenant")
    unseen = ("data",)


class Outcome(admin.SimpleListFilter):
    """Of one batch's lines: no index finds those that failed among all lines."""

    title = parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        if "batch__id__exact" not in request.GET:
            return []
        return [("delivered", "Delivered"), ("failed", "Failed"), ("flagged", "Flagged")]

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "delivered":
                return rows.filter(error_code="")
            case "failed":
                return rows.exclude(error_code="")
            case "flagged":
                return rows.exclude(flag="")
        return rows


@admin.register(Result)
class ResultAdmin(_OfBatch):
    list_display = (
        "batch", "line", "custom_id", "tenant", "status_code", "error_code", "input_tokens", "cached_tokens",
        "output_tokens", "cost_usd", "attempts", "latency_ms", "finished_at",
    )  # fmt: skip
    list_filter = (Outcome,)
    search_help_text = "The id of a batch, whole; after it the custom id of a line."
    fields = readonly_fields = (*list_display, "seq", "flag", "upstream_id", "segment_id", "offset", "length")

    def get_search_results(self, request: HttpRequest, rows: QuerySet[Any], term: str) -> tuple[QuerySet[Any], bool]:
        """A custom id is searched within its batch: no index finds one among all lines."""
        batch, _, custom_id = term.strip().partition(" ")
        rows, _ = super().get_search_results(request, rows, batch)
        return (rows.filter(custom_id=custom_id.strip()) if custom_id else rows), False

    @admin.display(description="cost, USD")
    def cost_usd(self, result: Result) -> str:
        return money.usd(result.cost)


@admin.register(Usage)
class UsageAdmin(_OfBatch):
    list_display = (
        "day", "tenant", "model", "batch", "completed", "failed", "input_tokens", "cached_tokens", "output_tokens",
        "cost_usd",
    )  # fmt: skip
    search_fields = ("batch__public_id__exact", *TENANT)
    search_help_text = "The id of a batch, whole, or a tenant's name."
    fields = readonly_fields = (*list_display, "api_key")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("api_key__tenant").defer("api_key__digest")

    @admin.display(description="cost, USD")
    def cost_usd(self, usage: Usage) -> str:
        return money.usd(usage.cost)
