"""The ledger, as it stands: nobody edits it. Credits are added."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from billing import ledger, money
from billing.admin.customers import Usd
from billing.ledger import Kind
from billing.models import ChargeLine, LedgerEntry
from tenants.console.pages import ReadOnly


class ChargeLineInline(admin.TabularInline):  # type: ignore[type-arg]  # generic in the stubs alone
    """What a batch's charge is made of."""

    model = ChargeLine
    extra = 0
    can_delete = False
    fields = readonly_fields = (
        "model", "day", "requests", "input_tokens", "cached_tokens", "output_tokens", "amount_usd",
    )  # fmt: skip

    def has_add_permission(self, request: HttpRequest, obj: LedgerEntry | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: LedgerEntry | None = None) -> bool:
        return False

    @admin.display(description="amount, USD")
    def amount_usd(self, line: ChargeLine) -> str:
        return money.usd(line.amount)


class CreditForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """Credits for a tenant, once a reference."""

    kind = forms.ChoiceField(choices=[(kind.value, kind.label) for kind in (Kind.CREDIT_GRANT, Kind.CREDIT_PURCHASE)])
    reference = forms.CharField(max_length=ledger.LONGEST_REFERENCE, help_text="What it is for: posted once.")
    amount = Usd(label="Amount", help_text="USD.")

    class Meta:
        model = LedgerEntry
        fields = ("tenant", "kind", "reference", "amount", "note")
        help_texts = {"note": "Tenants read it."}


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnly):
    """Seen; and credits are given."""

    form = CreditForm
    noun = "credit"
    autocomplete_fields = ("tenant",)
    list_display = ("reference", "tenant", "kind", "amount_usd", "debit", "credit", "created_at")
    list_filter = ("kind", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("reference", "tenant__name")
    shown = (
        "tenant", "kind", "reference", "amount_usd", "debit", "credit", "note", "reverses", "created_at",
    )  # fmt: skip
    inlines = (ChargeLineInline,)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("billing.add_ledgerentry")

    def tenant_of(self, obj: Any) -> Any:
        return obj.tenant

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.shown if obj else CreditForm.Meta.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.shown if obj else ()

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return self.inlines if obj else ()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.debit, obj.credit = ledger.ACCOUNTS[obj.kind]
        super().save_model(request, obj, form, change)

    @admin.display(description="amount, USD", ordering="amount")
    def amount_usd(self, entry: LedgerEntry) -> str:
        return money.usd(entry.amount)
