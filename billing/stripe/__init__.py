"""Stripe: customers, their payment methods, invoices that are paid there, and what its webhooks tell.

The ledger stays the truth; Stripe is told whole cents, and asked what became of them.
"""
