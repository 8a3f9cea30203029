"""Invoices, what they are made of, and what becomes of them."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from billing import invoicing, money, settlements, statement, wording
from billing.admin.fields import Noted
from billing.models import Invoice, InvoicedEntry
from billing.stripe import sending
from tenants.console import auditing
from tenants.console.asking import Answer, LeftAlone, asks
from tenants.console.pages import ReadOnly
from tenants.console.searching import TENANT
from tenants.models import Tenant

READ = "Its note, which the tenant's people read: "
_ROW = "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>"


def _total(words: str) -> Callable[[list[Invoice]], str]:
    """What it comes to, after these words."""
    return lambda rows: f"{words}\nIn all {money.dollars(sum(row.cents for row in rows))} USD."


@asks(
    "Mark as paid",
    "billing.change_invoice",
    _total(
        "{these}, paid in full, otherwise than at Stripe: the payment is posted, for good. What was written off is not"
        " any more."
    ),
    reason=f'{READ}how it was paid, such as "wire of 3 December".',
    form=Noted,
    unless=settlements.why_not_paid,
)
def mark_paid(request: HttpRequest, invoice: Invoice, answer: Answer) -> None:
    _settle(settlements.pay, request, invoice, answer)


@asks(
    "Write off",
    "billing.change_invoice",
    _total(
        "{these}, not to be paid: the loss is posted, and nothing is owed for it any more. Charges on what is written"
        " off are not taken back. What is paid after all is marked as paid."
    ),
    reason=f"{READ}why it is given up.",
    form=Noted,
    unless=settlements.why_not_written_off,
)
def write_off(request: HttpRequest, invoice: Invoice, answer: Answer) -> None:
    _settle(settlements.write_off, request, invoice, answer)


def _settle(
    settle: Callable[[Invoice, str, str], None], request: HttpRequest, invoice: Invoice, answer: Answer
) -> None:
    try:
        settle(invoice, answer.reason, auditing.email(request))
    except settlements.NotSettled as why:
        raise LeftAlone(str(why)) from None


@asks(
    "Send to Stripe",
    "billing.change_invoice",
    _total(
        "{these}, at Stripe within a minute, which charges or mails what it gets. From then on that is settled there"
        " alone."
    ),
    unless=sending.why_not,
)
def send(request: HttpRequest, invoice: Invoice, answer: Answer) -> None:
    if not sending.again(invoice, auditing.email(request)):
        raise LeftAlone(sending.NOT_SENT)


@admin.register(Invoice)
class InvoiceAdmin(ReadOnly):
    """Who may change invoices may say that one was paid, or is given up, and send it to Stripe again."""

    list_display = ("public_id", "tenant", "month", "total_usd", "status", "sent_at", "send_error")
    list_filter = ("status", "month")
    list_select_related = ("tenant",)
    search_fields = ("public_id__exact", "stripe_id__exact", *TENANT)
    search_help_text = "A whole id, here or at Stripe; or a tenant's name."
    fields = readonly_fields = (
        "public_id", "tenant", "month", "total_usd", "due_usd", "sums", "status", "created_at", "settled_at",
        "stripe_id", "stripe_url", "sent_at", "send_attempts", "send_at", "send_error", "lines", "entries",
    )  # fmt: skip
    actions = (mark_paid, write_off, send)

    def told(self, row: Invoice) -> str:
        of_month = f"{row.tenant}, {row.month:%Y-%m}: {money.dollars(row.cents)} USD"
        return f"{of_month}, {wording.status(row).lower()} ({row.public_id})"

    def tenant_of(self, obj: Any) -> Tenant:
        tenant: Tenant = obj.tenant
        return tenant

    def target_of(self, obj: Any) -> str:
        return str(obj.public_id)

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

    @admin.display(description="entries")
    def entries(self, invoice: Invoice) -> str:
        entries = reverse("admin:billing_invoicedentry_changelist")
        return format_html('<a href="{}?invoice__id__exact={}">Entries of the ledger on it</a>', entries, invoice.pk)


@admin.register(InvoicedEntry)
class InvoicedEntryAdmin(ReadOnly):
    list_display = fields = readonly_fields = ("entry", "invoice")
    list_select_related = ("entry", "invoice")
    search_fields = ("entry__reference__exact", "invoice__public_id__exact")
