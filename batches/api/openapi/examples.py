"""Objects as the API shows them, for the examples."""

import json
from typing import Any

KEY_LINE = (
    '{"custom_id": "eval-1", "body": {"model": "smollm2-135m", "messages": [{"role": "user", "content": "Hello!"}]}}'
)
INPUT = KEY_LINE + "\n"

USAGE = {
    "input_tokens": 107,
    "input_tokens_details": {"cached_tokens": 104},
    "output_tokens": 40,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 147,
}
_COMMON: dict[str, Any] = {
    "object": "batch",
    "model": "smollm2-135m",
    "input_file_id": "file-XqyH5mBOuakJpL3xJ1BQWhn0",
    "output_file_id": "file-A6tgTGLEehZ9v4OQLnug6db7",
    "error_file_id": None,
    "completion_window": "24h",
    "created_at": 1795545816,
    "in_progress_at": 1795545817,
    "expires_at": 1795632216,
    "cancelling_at": None,
    "finalizing_at": 1795545820,
    "completed_at": 1795545820,
    "failed_at": None,
    "cancelled_at": None,
    "expired_at": None,
    "estimated_completion_at": None,
    "waiting_reason": None,
    "errors": None,
    "metadata": {"run": "nightly"},
    "request_counts": {"total": 3, "completed": 3, "failed": 0, "cancelled": 0, "expired": 0},
    "usage": USAGE,
    "prefix_cache": {"cached_tokens": 104, "input_tokens": 107, "share": 0.972},
    "cost": {"usd": "0.00001335", "currency": "usd", "discount": "0.5", "reserved_usd": None},
    "sla": {"met": True, "credit_usd": "0"},
    "paused_reason": None,
    "max_cost_usd": None,
    "max_error_rate": None,
    "on_invalid_line": "fail",
    "retry_of": None,
    "erased_at": None,
}
_TITLE = {"id": "batch_QpaI3FYHuQr7RyBjzVGzV2Oc", "status": "completed", "endpoint": "/v1/chat/completions"}
ERASED = {"metadata": {}, "erased_at": 1795632300}
BATCH = {**_TITLE, "total_requests": 3, "completed_count": 3, "failed_count": 0, **_COMMON}
OPENAI_BATCH = {**_TITLE, **_COMMON}
_FRESH = {
    "status": "validating",
    "model": None,
    "output_file_id": None,
    "in_progress_at": None,
    "finalizing_at": None,
    "completed_at": None,
    "request_counts": {"total": 3, "completed": 0, "failed": 0, "cancelled": 0, "expired": 0},
    "usage": dict.fromkeys(USAGE, 0)
    | {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}},
    "prefix_cache": {"cached_tokens": 0, "input_tokens": 0, "share": None},
    "cost": {"usd": "0", "currency": "usd", "discount": None, "reserved_usd": None},
    "sla": {"met": None, "credit_usd": "0"},
}
SUBMITTED = {**BATCH, **_FRESH, "completed_count": 0}
CREATED = {**OPENAI_BATCH, **_FRESH}
CANCELLING = {"status": "cancelling", "cancelling_at": 1795545819, "finalizing_at": None, "completed_at": None}
FILE = {
    "id": "file-XqyH5mBOuakJpL3xJ1BQWhn0",
    "object": "file",
    "bytes": 512,
    "created_at": 1795545816,
    "filename": "batch.jsonl",
    "purpose": "batch",
    "status": "processed",
    "status_details": None,
    "expires_at": 1798137816,
}
DELIVERED = {
    "id": "resp_a35b98fec4b22cc255c0f6c4",
    "custom_id": "eval-2",
    "response": {"status_code": 200, "request_id": "req_a35b98fec4b22cc255c0f6c4", "body": {"choices": []}},
    "error": None,
}
TIMED_OUT = {
    "id": "resp_4152db5879fb6a0953e56fae",
    "custom_id": "eval-3",
    "response": None,
    "error": {"code": "request_timeout", "message": "The model server did not answer in time, also when asked again."},
}


def page(*objects: dict[str, Any]) -> dict[str, Any]:
    """A list object that holds these."""
    ends = {"first_id": objects[0]["id"], "last_id": objects[-1]["id"]}
    return {"object": "list", "data": list(objects), **ends, "has_more": False}


def lines(*objects: dict[str, Any]) -> str:
    return "".join(json.dumps(each) + "\n" for each in objects)


MODEL = {
    "id": "org/llama-3.1-8b",
    "object": "model",
    "created": 1795545816,
    "owned_by": "system",
    "prices": {
        "unit": "usd_per_million_tokens",
        "standard": {"input": "0.15", "cached_input": "0.075", "output": "0.6"},
        "batch": {"input": "0.075", "cached_input": "0.0375", "output": "0.3"},
        "discount": "0.5",
    },
    "endpoints": ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"],
}
_TAKEN = {
    "requests": {"completed": 3, "failed": 0},
    "input_tokens": 107,
    "cached_tokens": 104,
    "output_tokens": 40,
    "total_tokens": 147,
    "cost": {"usd": "0.00001335", "currency": "usd"},
}
USAGE_REPORT = {
    "object": "list",
    "data": [{"day": "2026-11-24", **_TAKEN}],
    "totals": _TAKEN,
    "from": "2026-10-26",
    "to": "2026-11-24",
    "group_by": "day",
}
LIMITS = {
    "object": "limits",
    "plan": "shared",
    "active_batches": {"limit": 10, "used": 1, "remaining": 9},
    "enqueued_tokens": {"limit": None, "used": 81340, "remaining": None},
    "stored_bytes": {"limit": 107374182400, "used": 52428800, "remaining": 107321753600},
    "retention": {"days": 30},
    "requests_per_minute": {"limit": 1200, "remaining": 1199, "reset": "50ms"},
    "file": {"bytes": 104857600, "lines": 50000},
    "line": {"bytes": 10485760, "nesting": 512},
    "custom_id": {"characters": 512},
    "metadata": {"pairs": 16, "key_characters": 64, "value_characters": 512},
    "batch": {"seconds": 86400},
}
_WORK = {
    "lines_without_limit": 0,
    "input_tokens": 112,
    "output_tokens": {"low": 3, "high": 48},
    "cost": {"low_usd": "0.0000062", "high_usd": "0.0000152", "currency": "usd", "discount": "0.5"},
}
PREFLIGHT = {
    "object": "batch.preflight",
    "valid": True,
    "refused": None,
    "endpoint": "/v1/chat/completions",
    "total_requests": 3,
    "valid_count": 3,
    "invalid_count": 0,
    "errors": None,
    "error_groups": [],
    **_WORK,
    "models": [{"model": "smollm2-135m", "lines": 3, **_WORK}],
    "shared_prefix": {"shared_tokens": 0, "share": 0.0},
    "completion_window": "24h",
    "expires_at": 1795632216,
    "estimated_completion_at": 1795545821,
    "waiting_reason": None,
}
RESULTS = {
    "object": "list",
    "data": [{"seq": 1, "line": 2, **DELIVERED}],
    "last_seq": 1,
    "has_more": False,
    "status": "in_progress",
}
ENDPOINT = {
    "id": "we_HpWq2xk4bVq1rT7sYc9ZfLmN",
    "object": "webhook_endpoint",
    "url": "https://hooks.example.com/batches",
    "name": "pipeline",
    "event_types": ["batch.completed", "batch.failed"],
    "enabled": True,
    "disabled_reason": None,
    "signing_secret_hint": "whsec_…Lk0=",
    "previous_secret_expires_at": None,
    "created_at": 1795545816,
    "updated_at": 1795545816,
}
ENDPOINT_WITH_SECRET = ENDPOINT | {"signing_secret": "whsec_…"}
DELETED_ENDPOINT = {"id": ENDPOINT["id"], "object": "webhook_endpoint.deleted", "deleted": True}
WEBHOOK_TEST = {
    "object": "webhook_endpoint.test",
    "webhook_endpoint_id": ENDPOINT["id"],
    "event_type": "batch.completed",
    "status_code": 204,
    "success": True,
}
EVENT = {
    "id": "evt_4Vb0W5OGn1mLkZcQ8sXyTfRj",
    "object": "event",
    "created_at": 1795545900,
    "type": "batch.completed",
    "data": {"id": BATCH["id"]},
}
DELIVERY = EVENT | {
    "object": "webhook_delivery",
    "status": "pending",
    "attempts": 2,
    "next_attempt_at": 1795546215,
    "last_attempt_at": 1795545907,
    "response_status": 500,
    "error": "http_status",
}
