"""The operators' admin of the money: a room for each of its tables."""

from billing.admin import customers, invoices, ledger, prices, stripe

__all__ = ["customers", "invoices", "ledger", "prices", "stripe"]
