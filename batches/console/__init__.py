"""The console's pages of the job: batches and their rows, upstreams, webhooks, receipts."""
