"""How much: price versions, the ledger, how a tenant pays, invoices. A room for each; batches are known here by their
public id only."""

from billing.models.customers import Customer
from billing.models.invoices import Invoice, InvoicedEntry
from billing.models.ledger import ChargeLine, LedgerEntry
from billing.models.prices import Price, TenantDiscount
from billing.models.stripe import StripeEvent

__all__ = [
    "ChargeLine",
    "Customer",
    "Invoice",
    "InvoicedEntry",
    "LedgerEntry",
    "Price",
    "StripeEvent",
    "TenantDiscount",
]
