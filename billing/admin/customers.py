"""How tenants pay."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from billing import customers, ledger, money, prices
from billing.admin.fields import Usd
from billing.ledger import Account
from billing.models import Customer
from tenants import clock
from tenants.console import auditing
from tenants.console.pages import ReadOnly
from tenants.console.searching import TENANT
from tenants.models import Tenant

STANDING = ("credits_usd", "owed_usd", "charged_usd", "own_discount")
STRIPES = ("alerted_month", "alerted_percent", "stripe_id", "can_pay", "past_due_since")
DECIDED = ("prepaid", "monthly_limit")


class CustomerForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """What an operator decides; the rest is Stripe's."""

    monthly_limit = Usd(
        label="Monthly limit", required=False, help_text="USD of charges in a month (UTC); blank: none."
    )

    class Meta:
        model = Customer
        fields = ("tenant", *DECIDED)


@admin.register(Customer)
class CustomerAdmin(auditing.Untold, ReadOnly):
    """Changed; and added for a tenant that was never asked about."""

    form = CustomerForm
    list_display = ("tenant", "prepaid", "limit_usd", "can_pay", "past_due_since")
    list_filter = ("prepaid", "can_pay", ("past_due_since", admin.EmptyFieldListFilter))
    list_select_related = ("tenant",)
    search_fields = ("stripe_id__exact", *TENANT)
    is_small = True
    autocomplete_fields = ("tenant",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("tenant", *DECIDED, *STANDING, *STRIPES) if obj else CustomerForm.Meta.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("tenant", *STANDING, *STRIPES) if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("billing.change_customer")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("billing.change_customer")

    def tenant_of(self, obj: Any) -> Tenant:
        tenant: Tenant = obj.tenant
        return tenant

    def target_of(self, obj: Any) -> str:
        return str(obj.tenant.name)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        columns = {name: form.cleaned_data[name] for name in DECIDED if name in form.changed_data}
        customers.change(obj.tenant_id, auditing.email(request), **columns)

    @admin.display(description="monthly limit, USD", ordering="monthly_limit")
    def limit_usd(self, customer: Customer) -> str | None:
        return None if customer.monthly_limit is None else money.usd(customer.monthly_limit)

    @admin.display(description="credits left, USD")
    def credits_usd(self, customer: Customer) -> str:
        return money.usd(ledger.balance(customer.tenant_id, Account.CREDITS))

    @admin.display(description="owed, USD")
    def owed_usd(self, customer: Customer) -> str:
        return money.usd(ledger.balance(customer.tenant_id, Account.RECEIVABLE))

    @admin.display(description="charged this month (UTC), USD")
    def charged_usd(self, customer: Customer) -> str:
        """What running batches have reserved, the pages of the job know."""
        charged = ledger.charged_since(customer.tenant_id, clock.month())
        if customer.monthly_limit is None:
            return money.usd(charged)
        left = money.usd(customer.monthly_limit - charged)
        return f"{money.usd(charged)}; {left} of the limit are left, less what running batches have reserved"

    @admin.display(description="discount of its own")
    def own_discount(self, customer: Customer) -> str:
        own = prices.own_discount(customer.tenant_id, clock.now())
        return "none: each model's" if own is None else f"{own}%"
