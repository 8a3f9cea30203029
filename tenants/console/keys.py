"""API keys: seen and revoked. They are made by `key create` and on the dashboard, which show them once."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from tenants import keys
from tenants.console import auditing
from tenants.console.asking import Answer, LeftAlone, asks
from tenants.console.pages import ReadOnly
from tenants.console.searching import TENANT
from tenants.models import ApiKey


@asks(
    "Revoke",
    "tenants.change_apikey",
    "Programs that use {these} are answered 401 from the next request on, for good. Batches that run go on.",
    reason="The tenant's people read it.",
    unless=lambda key: "It was revoked before." if key.revoked_at else None,
)
def revoke(request: HttpRequest, key: ApiKey, answer: Answer) -> None:
    if not keys.revoke_one(key, auditing.email(request), reason=answer.reason):
        raise LeftAlone("It was revoked before.")


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnly):
    list_display = ("prefix", "tenant", "name", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter), "created_at")
    search_fields = ("prefix__startswith", *TENANT)
    search_help_text = "How a key begins, or a tenant's name."
    fields = readonly_fields = (
        "tenant", "name", "prefix", "scopes", "created_at", "last_used_at", "rotated_at", "expires_at", "revoked_at",
    )  # fmt: skip
    actions = (revoke,)
    unseen = ("digest",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("tenant")

    def target_of(self, obj: Any) -> str:
        return str(obj.prefix)
