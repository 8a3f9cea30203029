"""Invoices, what they are made of, and what becomes of them."""

from collections.abc import Callable

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from billing import invoicing, money, statement
from billing.models import Invoice, InvoicedEntry
from tenants.console.pages import ReadOnly

OTHERS = "The others are settled already, or at Stripe: settle those there."
_ROW = "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>"


@admin.register(Invoice)
class InvoiceAdmin(ReadOnly):
    """Who may change invoices may say that one was paid, or is given up."""

    list_display = ("public_id", "tenant", "month", "total_usd", "status", "sent_at", "send_error")
    list_filter = ("status", "month")
    list_select_related = ("tenant",)
    search_fields = ("public_id", "tenant__name", "stripe_id")
    fields = readonly_fields = (
        "public_id", "tenant", "month", "total_usd", "due_usd", "sums", "status", "created_at", "settled_at",
        "stripe_id", "stripe_url", "sent_at", "send_attempts", "send_at", "send_error", "lines",
    )  # fmt: skip
    actions = ("mark_paid", "write_off")

    @admin.display(description="total, USD", ordering="cents")
    def total_usd(self, invoice: Invoice) -> str:
        return money.dollars(invoice.cents)

    @admin.display(description="exact sum, USD", ordering="due")
    def due_usd(self, invoice: Invoice) -> str:
        return money.usd(invoice.due)

    @admin.display(description="made of, USD")
    def sums(self, invoice: Invoice) -> str:
        named = statement.sums(invoice, invoicing.parts(invoice)).items()
        return ", ".join(f"{name.replace('_', ' ')} {money.usd(amount)}" for name, amount in named)

    @admin.display(description="lines")
    def lines(self, invoice: Invoice) -> str:
        rows = [(line.day, line.model, line.requests, money.usd(line.amount)) for line in invoicing.lines(invoice)]
        cells = format_html_join("", _ROW, [("Day", "Model", "Requests", "USD"), *rows])
        return format_html("<table>{}</table>", cells)

    def has_settle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("billing.change_invoice")

    @admin.action(description="Mark selected invoices as paid", permissions=["settle"])
    def mark_paid(self, request: HttpRequest, chosen: QuerySet[Invoice]) -> None:
        self._settle(request, chosen, invoicing.pay, "Marked {} of {} as paid.")

    @admin.action(description="Write selected invoices off", permissions=["settle"])
    def write_off(self, request: HttpRequest, chosen: QuerySet[Invoice]) -> None:
        self._settle(request, chosen, invoicing.write_off, "Wrote {} of {} off.")

    def _settle(
        self, request: HttpRequest, chosen: QuerySet[Invoice], settle: Callable[[Invoice, str], bool], said: str
    ) -> None:
        """Those at Stripe are settled there."""
        note = f"By staff at /admin/, person {request.user.pk}"  # tenants read it
        settled = sum(settle(invoice, note) for invoice in chosen if not invoice.at_stripe)
        message, level = said.format(settled, chosen.count()), messages.SUCCESS
        if settled < chosen.count():
            message, level = f"{message} {OTHERS}", messages.WARNING
        self.message_user(request, message, level)


@admin.register(InvoicedEntry)
class InvoicedEntryAdmin(ReadOnly):
    list_display = fields = readonly_fields = ("entry", "invoice")
    list_select_related = ("entry", "invoice")
    search_fields = ("entry__reference", "invoice__public_id")
