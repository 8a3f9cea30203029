"""The operators' admin of sealed batches: seen, not edited."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from batches.models import Manifest, SigningKey
from tenants.console.pages import ReadOnly


@admin.register(Manifest)
class ManifestAdmin(ReadOnly):
    list_display = ("batch", "tenant", "key")
    search_fields = ("batch__public_id__exact",)
    search_help_text = "The id of a batch, whole."
    fields = readonly_fields = ("batch", "tenant", "key", "signed", "signature")
    unseen = ("batch__secret", "batch__step_token")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("batch", "tenant", "key")


@admin.register(SigningKey)
class SigningKeyAdmin(ReadOnly):
    list_display = ("key_id", "public_key", "created_at")
    search_fields = ("key_id",)
    is_small = True
    fields = readonly_fields = list_display
