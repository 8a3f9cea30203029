"""Examples of the answers about money: billing, invoices, the ledger, receipts."""

from batches.api.openapi import examples

BILLING = {
    "object": "billing",
    "currency": "usd",
    "prepaid": True,
    "credits": {"balance_usd": "25", "reserved_usd": "4.5", "available_usd": "20.5"},
    "month": {
        "month": "2026-11",
        "charged_usd": "49.38",
        "running_usd": "1.2",
        "reserved_usd": "4.5",
        "limit_usd": "100",
        "available_usd": "46.12",
        "alerted_percent": 50,
    },
    "payment": {"can_pay": True, "past_due_since": None},
}
INVOICE_TITLE = {
    "id": "inv_8sXyTfRj4Vb0W5OGn1mLkZcQ",
    "object": "invoice",
    "month": "2026-10",
    "status": "open",
    "currency": "usd",
    "due_usd": "10.30400000125",
    "total_usd": "10.30",
    "created_at": 1793491200,
    "settled_at": None,
    "payment_url": None,
}
INVOICE_ENTRY = {
    "id": "sla_credit:batch_QpaI3FYHuQr7RyBjzVGzV2Oc",
    "object": "invoice.entry",
    "kind": "sla_credit",
    "reference": "batch_QpaI3FYHuQr7RyBjzVGzV2Oc",
    "amount_usd": "0",
    "credits_usd": "2",
    "note": "It missed its 24 hours.",
    "created_at": 1792886400,
}
INVOICE = INVOICE_TITLE | {
    "sums": {
        "charges_usd": "12.30400000125",
        "credits_used_usd": "-2",
        "corrections_usd": "0",
        "carried_over_usd": "0",
        "rounding_usd": "-0.00400000125",
    },
    "sla": {"batches": 1, "met": 0, "attainment": 0.0},
    "lines": [
        {
            "model": "org/llama-3.1-8b",
            "day": "2026-10-24",
            "requests": 3,
            "input_tokens": 107,
            "cached_tokens": 104,
            "output_tokens": 40,
            "amount_usd": "12.30400000125",
        }
    ],
    "entry_counts": {"batch_charge": 1, "credit_use": 1, "sla_credit": 1},
    "entries": [INVOICE_ENTRY],
}
RECEIPT = {
    "line": 2,
    "custom_id": "eval-2",
    "input_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "status_code": 200,
    "error_code": None,
    "flag": None,
    "attempts": 1,
    "upstream": 1,
    "model": "smollm2-135m",
    "tokens": {"input": 36, "cached": 35, "output": 13},
    "rates": {"input": 75000000000, "cached_input": 37500000000, "output": 300000000000},
    "cost_usd": "0.0000052875",
    "cost_pico": 5287500,
    "finished_at": 1795545819,
}
MANIFEST = {
    "object": "batch.manifest",
    "signed": '{"type":"provocative.batch_manifest","version":1,"batch_id":"batch_QpaI3FYHuQr7RyBjzVGzV2Oc"}',
    "algorithm": "ed25519",
    "signature": "3g0Qk6u7B2sV4cJ8dO5Y1mXhQ0d0yB6n4kL2pT9wR7eS5aU3vF1iZ8xC6bN4mH2jK0lP9oI7uY5tR3eW1qAsDg==",
    "key_id": "5f1d7a84db00d2fc",
    "public_key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
}
MANIFEST_KEYS = {
    "object": "list",
    "data": [
        {
            "id": MANIFEST["key_id"],
            "object": "manifest_key",
            "algorithm": "ed25519",
            "public_key": MANIFEST["public_key"],
            "created_at": 1795545821,
        }
    ],
}
LEDGER_ENTRY = {
    "id": f"batch_charge:{examples.BATCH['id']}",
    "object": "ledger_entry",
    "kind": "batch_charge",
    "reference": examples.BATCH["id"],
    "amount_usd": "0.00001335",
    "moved_usd": "0.00001335",
    "debit": "receivable",
    "credit": "revenue",
    "note": None,
    "created_at": 1795545820,
    "invoice": None,
    "lines": [
        {
            "model": "smollm2-135m",
            "day": "2026-11-24",
            "requests": 3,
            "input_tokens": 107,
            "cached_tokens": 104,
            "output_tokens": 40,
            "amount_usd": "0.00001335",
        }
    ],
}
