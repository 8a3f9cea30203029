"""Webhooks: endpoints, which staff disable and enable, and deliveries, which they send again. No secret is selected."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from batches.core import webhooks
from batches.models import WebhookDelivery, WebhookEndpoint
from batches.webhooks import addresses, endpoints
from tenants.console import auditing
from tenants.console.asking import Answer, LeftAlone, asks
from tenants.console.pages import ReadOnly
from tenants.console.searching import TENANT
from tenants.models import Tenant

SECRETS = ("secret", "previous_secret")
READ = "The tenant's people read it."
ERRORS = (
    "http_status", "redirect", "timeout", "connection_failed", "tls_failed", "invalid_response", "name_not_resolved",
    "address_not_allowed", "https_required", "invalid_url", "endpoint_disabled", "sender_died", "sender_failed",
    "secret_unreadable",
)  # fmt: skip


def _switch(request: HttpRequest, endpoint: WebhookEndpoint, reason: str, to: str) -> None:
    if not endpoints.update(endpoint, auditing.email(request), {"disabled_reason": to}, reason):
        raise LeftAlone("It is so already, or gone.")


@asks(
    "Disable",
    "batches.change_webhookendpoint",
    "{these}: nothing is sent there any more. What happens meanwhile is not sent later either, and what waits to be"
    " sent is given up. The tenant's people see it as disabled, and can enable it.",
    reason=READ,
    unless=lambda endpoint: "It is disabled already." if endpoint.disabled_reason else None,
)
def disable(request: HttpRequest, endpoint: WebhookEndpoint, answer: Answer) -> None:
    _switch(request, endpoint, answer.reason, WebhookEndpoint.Disabled.BY_TENANT)


@asks(
    "Enable",
    "batches.change_webhookendpoint",
    "{these}: what happens from now on is sent there. What happened meanwhile is not.",
    reason=READ,
    unless=lambda endpoint: None if endpoint.disabled_reason else "It is enabled already.",
    is_mild=True,
)
def enable(request: HttpRequest, endpoint: WebhookEndpoint, answer: Answer) -> None:
    _switch(request, endpoint, answer.reason, "")


@asks(
    "Send again",
    "batches.replay_webhookdelivery",
    f"{{these}}: each is posted to its endpoint once more, with the id that it had, by which a receiver can tell. Its"
    f" attempts begin anew: up to {webhooks.MAX_ATTEMPTS}, over 28 hours.",
    reason=READ,
    unless=lambda sent: "Its endpoint is disabled." if sent.endpoint.disabled_reason else None,
    is_mild=True,
)
def send_again(request: HttpRequest, sent: WebhookDelivery, answer: Answer) -> None:
    endpoints.replay(sent.endpoint, auditing.email(request), sent, answer.reason)


class _OfTenant(ReadOnly):
    """Rows of tenants. No filter guesses at the path of an address."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return not lookup.startswith(("url", "endpoint__url")) and super().lookup_allowed(lookup, value, request)

    def tenant_of(self, obj: Any) -> Tenant | None:
        tenant: Tenant = obj.tenant
        return tenant


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(_OfTenant):
    """An address without its path, which may be a secret of the tenant's."""

    list_display = ("public_id", "tenant", "leads_to", "event_types", "is_enabled", "disabled_reason", "created_at")
    list_filter = ("disabled_reason", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("public_id__exact", *TENANT)
    search_help_text = "A whole id, or a tenant's name."
    is_small = True
    fields = readonly_fields = (
        "public_id", "tenant", "name", "leads_to", "event_types", "is_enabled", "disabled_reason", "previous_until",
        "created_at", "updated_at",
    )  # fmt: skip
    actions = (disable, enable)
    unseen = SECRETS

    @admin.display(description="address")
    def leads_to(self, endpoint: Any) -> str:
        return addresses.origin(endpoint.url)

    @admin.display(description="enabled", boolean=True)
    def is_enabled(self, endpoint: Any) -> bool:
        return not endpoint.disabled_reason


class _Chosen(admin.SimpleListFilter):
    """One of the values that there are; the table is not read to find them."""

    column: str
    values: tuple[str, ...]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, value) for value in self.values]

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.filter(**{self.column: self.value()}) if self.value() in self.values else rows


class EventType(_Chosen):
    title, parameter_name, column, values = "event", "event", "event_type", webhooks.EVENTS


class LastError(_Chosen):
    title, parameter_name, column, values = "last error", "error", "last_error", ERRORS


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(_OfTenant):
    list_display = (
        "event_id", "event_type", "state", "attempts", "last_status", "last_error", "tenant", "subject", "goes_to",
        "created_at", "next_at",
    )  # fmt: skip
    list_filter = ("state", EventType, LastError, "created_at")
    search_fields = ("event_id__exact", "subject__exact", "endpoint__public_id__exact", *TENANT)
    search_help_text = "The whole id of an event, a batch or an endpoint; or a tenant's name."
    fields = readonly_fields = (*list_display, "last_at")
    actions = (send_again,)
    unseen = ("lease_token", *(f"endpoint__{secret}" for secret in SECRETS))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("tenant", "endpoint")

    def target_of(self, obj: Any) -> str:
        return str(obj.event_id)

    @admin.display(description="endpoint", ordering="endpoint")
    def goes_to(self, delivery: Any) -> str:
        return str(delivery.endpoint.public_id)
