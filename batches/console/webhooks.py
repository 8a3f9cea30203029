"""The operators' admin of webhooks: seen, not edited. Secrets are never selected."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from batches.models import WebhookDelivery, WebhookEndpoint
from tenants.console.pages import ReadOnly

SECRETS = ("secret", "previous_secret")


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ReadOnly):
    list_display = ("public_id", "tenant", "url", "event_types", "disabled_reason", "created_at")
    list_filter = ("disabled_reason", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("public_id", "url", "tenant__name")
    fields = readonly_fields = (
        "public_id", "tenant", "name", "url", "event_types", "disabled_reason", "previous_until", "created_at",
        "updated_at",
    )  # fmt: skip
    unseen = SECRETS


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnly):
    list_display = (
        "event_id", "event_type", "subject", "tenant", "endpoint", "state", "attempts", "last_status", "last_error",
        "created_at", "next_at",
    )  # fmt: skip
    list_filter = ("state", "last_error", "created_at")
    search_fields = ("event_id", "subject", "endpoint__public_id", "tenant__name")
    fields = readonly_fields = (*list_display, "last_at")
    unseen = ("lease_token", *(f"endpoint__{secret}" for secret in SECRETS))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("tenant", "endpoint")
