"""Price versions and tenants' discounts: seen and added, never edited."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from billing import customers, money
from billing.models import Price, TenantDiscount
from tenants.console import auditing
from tenants.console.pages import ReadOnly


class UsdPerMillion(forms.CharField):
    """A price as people write it; cleaned, whole pico-USD per token."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return money.rate(text) if text else None
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None


class PriceForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """A new version, in force from now."""

    input = UsdPerMillion(label="Input", help_text="USD per million tokens, standard rate.")
    cached_input = UsdPerMillion(label="Cached input", required=False, help_text="Blank: the same as input.")
    output = UsdPerMillion(label="Output", help_text="USD per million tokens, standard rate.")

    class Meta:
        model = Price
        fields = ("model", "input", "cached_input", "output", "discount")

    def clean_cached_input(self) -> Any:
        cached = self.cleaned_data["cached_input"]
        return self.cleaned_data.get("input") if cached is None else cached


@admin.register(Price)
class PriceAdmin(ReadOnly):
    """Seen and added; a change of price is a new row."""

    form = PriceForm
    noun = "price"
    list_display = readonly_fields = (
        "model",
        "input_usd",
        "cached_input_usd",
        "output_usd",
        "discount",
        "effective_at",
    )
    list_filter = ("effective_at",)
    search_fields = ("model",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("billing.add_price")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.list_display if obj else PriceForm.Meta.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.list_display if obj else ()

    @admin.display(description="input, USD per million", ordering="input")
    def input_usd(self, price: Price) -> str:
        return money.usd(price.input * money.MILLION)

    @admin.display(description="cached input, USD per million", ordering="cached_input")
    def cached_input_usd(self, price: Price) -> str:
        return money.usd(price.cached_input * money.MILLION)

    @admin.display(description="output, USD per million", ordering="output")
    def output_usd(self, price: Price) -> str:
        return money.usd(price.output * money.MILLION)


@admin.register(TenantDiscount)
class TenantDiscountAdmin(auditing.Untold, ReadOnly):
    """Seen and added; a change is a new row, in force from now."""

    list_display = ("tenant", "discount", "effective_at")
    list_select_related = ("tenant",)
    search_fields = ("tenant__name",)
    autocomplete_fields = ("tenant",)
    fields = ("tenant", "discount")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("billing.add_tenantdiscount")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        customers.discount(obj, auditing.email(request))
