"""`manage.py invoice close | list | pay | write-off | send`: months into invoices, and what becomes of them."""

from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any

from django.core.management.base import CommandError

from billing import invoicing, money, settlements
from billing.models import Invoice
from billing.stripe import sending
from tenants import trail
from tenants.management.console import VerbCommand, month, short_text, shown_time, tenant_named
from tenants.paging import by_pk

NOTE = short_text(200)


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
            close = partial(invoicing.close_month, month) if month else invoicing.close_all
            made = close(owner, trail.OPERATOR)
        except invoicing.NotOver as error:
            raise CommandError(f"{error} Close it on the first of the next month (UTC), or later.") from None
        for invoice in made:
            self.say(_shown(invoice))

    def show(self, tenant: str | None) -> None:
        rows = Invoice.objects.filter(tenant=tenant_named(tenant)) if tenant else Invoice.objects.all()
        for invoice in by_pk(rows.select_related("tenant")):
            self.say(_shown(invoice))

    def pay(self, invoice: str, note: str) -> None:
        self._settle(invoice, settlements.pay, note)

    def write_off(self, invoice: str, note: str) -> None:
        self._settle(invoice, settlements.write_off, note)

    def _settle(self, invoice: str, settle: Callable[[Invoice, str], None], note: str) -> None:
        try:
            settle(_invoice(invoice), note)
        except settlements.NotSettled as error:
            raise CommandError(str(error)) from None
        self.say(_shown(_invoice(invoice)))

    def send(self, invoice: str) -> None:
        found = _invoice(invoice)
        if why := sending.why_not(found):
            raise CommandError(why)
        if not sending.again(found):
            raise CommandError(sending.NOT_SENT)
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
