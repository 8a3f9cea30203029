"""`manage.py invoice close | list | pay | write-off | send`: months into invoices, and what becomes of them."""

from collections.abc import Callable
from datetime import date
from typing import Any

from django.core.management.base import CommandError

from billing import invoicing, money
from billing.models import Invoice
from billing.stripe import client, sending
from tenants.management.console import VerbCommand, month, short_text, shown_time, tenant_named

NOTE = short_text(200)
AT_STRIPE = "It is at Stripe, which may charge for it: mark it as paid, or void it, there. Its webhook does the rest."


class Command(VerbCommand):
    help = "Invoices: close months, list them, say what became of them."

    def add_verbs(self) -> None:
        close = self.verb("close", self.close, "Make the invoices of ended months that have none; print each.")
        close.add_argument("--month", type=month, metavar="YYYY-MM", help="This one; absent: every month that ended.")
        close.add_argument("--tenant", metavar="NAME", help="Of this one; absent: of all.")
        self.verb("list", self.show, "Print every invoice, the oldest first.").add_argument("--tenant", metavar="NAME")
        pay = self.verb("pay", self.pay, "It was paid otherwise than at Stripe.")
        write_off = self.verb("write-off", self.write_off, "It will not be paid.")
        for verb in (pay, write_off, self.verb("send", self.send, "Send it to Stripe now, or again.")):
            verb.add_argument("invoice", metavar="ID")
        pay.add_argument("--note", type=NOTE, required=True, help="How it was paid: tenants read it.")
        write_off.add_argument("--note", type=NOTE, required=True, help="Why it is given up: tenants read it.")

    def close(self, month: date | None, tenant: str | None) -> None:
        owner = tenant_named(tenant).pk if tenant else None
        try:
            made = invoicing.close_month(month, owner) if month else invoicing.close_all(owner)
        except invoicing.NotOver as error:
            raise CommandError(f"{error} Close it on the first of the next month (UTC), or later.") from None
        for invoice in made:
            self.say(_shown(invoice))

    def show(self, tenant: str | None) -> None:
        rows = Invoice.objects.filter(tenant=tenant_named(tenant)) if tenant else Invoice.objects.all()
        for invoice in rows.select_related("tenant").order_by("pk").iterator():
            self.say(_shown(invoice))

    def pay(self, invoice: str, note: str) -> None:
        self._settle(invoice, invoicing.pay, note, "It was paid before.")

    def write_off(self, invoice: str, note: str) -> None:
        self._settle(invoice, invoicing.write_off, note, "It is not open: only what is to be paid is written off.")

    def _settle(self, invoice: str, settle: Callable[[Invoice, str], bool], note: str, refusal: str) -> None:
        found = _invoice(invoice)
        if found.at_stripe:
            raise CommandError(AT_STRIPE)
        if not settle(found, note):
            raise CommandError(refusal)
        self.say(_shown(_invoice(invoice)))

    def send(self, invoice: str) -> None:
        if not client.configured():
            raise CommandError("Stripe is not set up: STRIPE_API_KEY is empty.")
        if not sending.again(_invoice(invoice)):
            raise CommandError("It is not open, Stripe has it already, or it is on its way there.")
        self.say(_shown(_invoice(invoice)))


def _invoice(public_id: str) -> Invoice:
    found = Invoice.objects.select_related("tenant").filter(public_id=public_id).first()
    if found is None:
        raise CommandError(f"There is no invoice {public_id!r}: `invoice list` shows them.")
    return found


def _shown(invoice: Invoice) -> dict[str, Any]:
    return {
        "id": invoice.public_id,
        "tenant": invoice.tenant.name,
        "month": f"{invoice.month:%Y-%m}",
        "status": invoice.status,
        "due": money.usd(invoice.due),
        "total": money.dollars(invoice.cents),
        "created": shown_time(invoice.created_at),
        "settled": shown_time(invoice.settled_at),
        "stripe": invoice.stripe_id,
        "sent": shown_time(invoice.sent_at),
        "send_error": invoice.send_error or None,
    }
