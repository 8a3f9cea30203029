"""Telling tenants of the ends of their batches."""
