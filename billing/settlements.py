"""What people say became of an invoice: not of one at Stripe, which may charge for it all the same."""

from django.db import transaction

from billing import invoicing
from billing.models import Invoice
from tenants import admission, trail

AT_STRIPE = "It is at Stripe, which may charge for it: mark it as paid, or void it, there. Its webhook does the rest."
PAID = "It was paid before."
NOT_OPEN = "It is not open: only what is to be paid is written off."


class NotSettled(ValueError):
    """It is at Stripe, or settled."""


def why_not_paid(invoice: Invoice) -> str | None:
    """Why nobody here can say that it was paid; None: they can."""
    if invoice.at_stripe:
        return AT_STRIPE
    return PAID if invoice.status == Invoice.Status.PAID else None


def why_not_written_off(invoice: Invoice) -> str | None:
    """Why it is not given up here; None: it can be."""
    if invoice.at_stripe:
        return AT_STRIPE
    return None if invoice.status == Invoice.Status.OPEN else NOT_OPEN


def pay(invoice: Invoice, note: str, actor: str = trail.OPERATOR) -> None:
    """It was paid otherwise than at Stripe; `note` says how. Raises NotSettled."""
    with transaction.atomic():
        row = _held(invoice)
        if why := why_not_paid(row):
            raise NotSettled(why)
        invoicing.pay(row, note, actor)


def write_off(invoice: Invoice, note: str, actor: str = trail.OPERATOR) -> None:
    """It will not be paid; `note` says why. Raises NotSettled."""
    with transaction.atomic():
        row = _held(invoice)
        if why := why_not_written_off(row):
            raise NotSettled(why)
        invoicing.write_off(row, note, actor)


def _held(invoice: Invoice) -> Invoice:
    """The row as it is, until the transaction's end: nobody begins to send it to Stripe meanwhile."""
    admission.lock(invoice.tenant_id)
    return Invoice.objects.select_for_update(no_key=True).get(pk=invoice.pk)
