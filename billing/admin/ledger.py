"""The ledger, as it stands: nobody edits it."""

from django.contrib import admin
from django.http import HttpRequest

from billing import money
from billing.models import ChargeLine, LedgerEntry
from tenants.admin import ReadOnly


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


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnly):
    list_display = ("reference", "tenant", "kind", "amount_usd", "debit", "credit", "created_at")
    list_filter = ("kind", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("reference", "tenant__name")
    fields = readonly_fields = (
        "tenant", "kind", "reference", "amount_usd", "debit", "credit", "note", "reverses", "created_at",
    )  # fmt: skip
    inlines = (ChargeLineInline,)

    @admin.display(description="amount, USD", ordering="amount")
    def amount_usd(self, entry: LedgerEntry) -> str:
        return money.usd(entry.amount)
