"""The console's pages of the job: a room for each reason."""

from batches.console import jobs, leaving, pricing, receipts, rows, upstreams, webhooks

__all__ = ["jobs", "leaving", "pricing", "receipts", "rows", "upstreams", "webhooks"]
