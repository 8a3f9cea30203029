"""Invoices, and which ledger entries are on them."""

from django.contrib import admin

from billing import money
from billing.models import Invoice, InvoicedEntry
from tenants.admin import ReadOnly


@admin.register(Invoice)
class InvoiceAdmin(ReadOnly):
    list_display = ("public_id", "tenant", "month", "total_usd", "status", "sent_at", "send_error")
    list_filter = ("status", "month")
    list_select_related = ("tenant",)
    search_fields = ("public_id", "tenant__name", "stripe_id")
    fields = readonly_fields = (
        "public_id", "tenant", "month", "total_usd", "due_usd", "status", "created_at", "settled_at", "stripe_id",
        "stripe_url", "sent_at", "send_attempts", "send_at", "send_error",
    )  # fmt: skip

    @admin.display(description="total, USD", ordering="cents")
    def total_usd(self, invoice: Invoice) -> str:
        return money.usd(invoice.cents * money.CENT)

    @admin.display(description="exact sum, USD", ordering="due")
    def due_usd(self, invoice: Invoice) -> str:
        return money.usd(invoice.due)


@admin.register(InvoicedEntry)
class InvoicedEntryAdmin(ReadOnly):
    list_display = fields = readonly_fields = ("entry", "invoice")
    list_select_related = ("entry", "invoice")
    search_fields = ("entry__reference", "invoice__public_id")
