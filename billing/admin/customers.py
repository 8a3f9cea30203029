"""How tenants pay."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from billing import customers, money
from billing.models import Customer
from tenants.console import auditing
from tenants.console.pages import ReadOnly


class Usd(forms.CharField):
    """A sum as people write it; cleaned, whole pico-USD."""

    def prepare_value(self, value: Any) -> Any:
        return money.usd(value) if isinstance(value, int) else value

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return money.amount(text) if text else None
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None


class CustomerForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """What an operator decides; the rest is Stripe's."""

    monthly_limit = Usd(
        label="Monthly limit", required=False, help_text="USD of charges in a month (UTC); blank: none."
    )

    class Meta:
        model = Customer
        fields = ("prepaid", "monthly_limit")


@admin.register(Customer)
class CustomerAdmin(auditing.Untold, ReadOnly):
    form = CustomerForm
    list_display = ("tenant", "prepaid", "limit_usd", "can_pay", "past_due_since")
    list_filter = ("prepaid", "can_pay")
    list_select_related = ("tenant",)
    search_fields = ("tenant__name", "stripe_id")
    readonly_fields = ("tenant", "alerted_month", "alerted_percent", "stripe_id", "can_pay", "past_due_since")
    fields = (
        "tenant", "prepaid", "monthly_limit", "alerted_month", "alerted_percent", "stripe_id", "can_pay",
        "past_due_since",
    )  # fmt: skip

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("billing.change_customer")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        columns = {name: form.cleaned_data[name] for name in form.changed_data}
        customers.change(obj.pk, auditing.email(request), **columns)

    @admin.display(description="monthly limit, USD", ordering="monthly_limit")
    def limit_usd(self, customer: Customer) -> str | None:
        return None if customer.monthly_limit is None else money.usd(customer.monthly_limit)
