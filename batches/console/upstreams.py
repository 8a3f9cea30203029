"""The operators' admin of upstreams, which may be changed, and of who uses their slots."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.http import HttpRequest

from batches.models import Permit, Runner, Upstream
from tenants.console.pages import Plain, ReadOnly


class UpstreamForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """The key can be set here and never be read."""

    new_key = forms.CharField(
        label="API key",
        required=False,
        max_length=500,
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password"}),
        help_text="Never shown. Blank keeps what is stored.",
    )
    forget_key = forms.BooleanField(label="Remove the API key", required=False)

    class Meta:
        model = Upstream
        fields = ("model", "base_url", "upstream_model", "kind", "tenant", "max_in_flight", "enabled")

    def clean_base_url(self) -> str:
        url = str(self.cleaned_data["base_url"]).rstrip("/")
        if not url.startswith(("http://", "https://")) or not url.endswith("/v1"):
            raise ValidationError("Write http:// or https:// and an address that ends in /v1.")
        return url

    def replaces_key(self) -> bool:
        return bool(self.cleaned_data.get("new_key") or self.cleaned_data.get("forget_key"))

    def save(self, commit: bool = True) -> Any:
        if self.replaces_key():
            self.instance.api_key = self.cleaned_data["new_key"]
        return super().save(commit)


@admin.register(Upstream)
class UpstreamAdmin(Plain):
    form = UpstreamForm
    noun = "upstream"
    list_display = (
        "model",
        "base_url",
        "kind",
        "tenant",
        "max_in_flight",
        "enabled",
        "cooling_until",
        "keyed",
        "embedded",
    )
    list_filter = ("enabled", "kind", "embedded")
    list_select_related = ("tenant",)
    search_fields = ("model", "base_url", "upstream_model", "tenant__name")
    readonly_fields = ("cooling_until", "embedded", "created_at", "keyed")
    autocomplete_fields = ("tenant",)
    unseen = ("api_key",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        keyed = ExpressionWrapper(~Q(api_key=""), BooleanField())
        rows: QuerySet[Any] = super().get_queryset(request).annotate(keyed=keyed)
        return rows

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return (*UpstreamForm.Meta.fields, "new_key")
        changing = ("new_key", "forget_key") if self.has_change_permission(request, obj) else ()
        return (*UpstreamForm.Meta.fields, "keyed", *changing, "cooling_until", "embedded", "created_at")

    def changed_columns(self, obj: Any, form: Any) -> set[str]:
        return super().changed_columns(obj, form) | ({"api_key"} if form.replaces_key() else set())

    @admin.display(description="has a key", boolean=True)
    def keyed(self, upstream: Any) -> bool:
        return bool(upstream.keyed)


@admin.register(Runner)
class RunnerAdmin(ReadOnly):
    list_display = fields = readonly_fields = ("host", "pid", "created_at", "lease_until")
    list_filter = ("created_at",)
    search_fields = ("host", "pid__exact")
    unseen = ("token",)


@admin.register(Permit)
class PermitAdmin(ReadOnly):
    list_display = fields = readonly_fields = ("upstream", "runner", "slots", "wanted")
    list_filter = ("upstream__kind",)
    search_fields = ("upstream__model", "upstream__base_url", "runner__host")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request).select_related("upstream", "runner")
        return rows.defer("upstream__api_key", "runner__token")
