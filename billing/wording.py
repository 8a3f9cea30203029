"""What the kinds of entries, the sums and the states of invoices are called where people read them."""

from billing.ledger import Kind
from billing.models import Invoice

KINDS: dict[str, str] = {
    Kind.BATCH_CHARGE: "Batch",
    Kind.CREDIT_GRANT: "Credits given",
    Kind.CREDIT_PURCHASE: "Credits bought",
    Kind.SLA_CREDIT: "Late batch",
    Kind.CREDIT_USE: "Paid by credits",
    Kind.CORRECTION: "Correction",
    Kind.CARRIED: "Carried over",
    Kind.PAYMENT: "Payment",
    Kind.WRITE_OFF: "Written off",
    Kind.ROUNDING: "Rounding",
}
SUMS = {
    "charges": "Charges",
    "credits_used": "Paid by credits",
    "corrections": "Corrections",
    "carried_over": "Left over, now credits",
    "rounding": "Rounded to whole cents",
}


def status(invoice: Invoice) -> str:
    """In a word or three."""
    if invoice.status == Invoice.Status.PAID:
        return "Paid" if invoice.cents else "Nothing to pay"
    return "Written off" if invoice.status == Invoice.Status.VOID else "To be paid"
