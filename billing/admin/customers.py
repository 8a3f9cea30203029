"""How tenants pay."""

from django.contrib import admin

from billing import money
from billing.models import Customer
from tenants.admin import ReadOnly


@admin.register(Customer)
class CustomerAdmin(ReadOnly):
    list_display = ("tenant", "prepaid", "limit_usd", "can_pay", "past_due_since")
    list_filter = ("prepaid", "can_pay")
    list_select_related = ("tenant",)
    search_fields = ("tenant__name", "stripe_id")
    fields = readonly_fields = (
        "tenant", "prepaid", "limit_usd", "alerted_month", "alerted_percent", "stripe_id", "can_pay", "past_due_since",
    )  # fmt: skip

    @admin.display(description="monthly limit, USD", ordering="monthly_limit")
    def limit_usd(self, customer: Customer) -> str | None:
        return None if customer.monthly_limit is None else money.usd(customer.monthly_limit)
