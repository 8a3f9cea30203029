"""What the API shows of a batch. Nullable fields are sent as null; times are unix seconds."""

import json
from datetime import datetime
from typing import Any

import msgspec
from django.db.models import F

from batches.core import states
from batches.core.states import Status
from batches.models import Batch, File
from billing import money

_rates = msgspec.json.Decoder(dict[str, money.Rates])
RESERVED = set(states.ACTIVE) - {Status.VALIDATING}
NAMES = ("input_file", "output_file", "error_file", "retry_of")
NAMED = {f"{name}_shown": F(f"{name}__public_id") for name in NAMES}  # of other rows their public ids alone


def unix(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def native(batch: Any) -> dict[str, Any]:
    """The batch object of a Batch annotated with NAMED; its first six fields are the documented first answer."""
    status = Status(batch.status)
    return {
        "id": batch.public_id,
        "status": states.shown(status, batch.cancelling_at is not None),
        "endpoint": batch.endpoint,
        "total_requests": batch.total,
        "completed_count": batch.completed,
        "failed_count": batch.failed,
        **_common(batch, status, _errors(batch, status)),
    }


def openai(batch: Any) -> dict[str, Any]:
    """The same as OpenAI's clients read it: expired is a status of its own, and no error of the input."""
    status = Status(batch.status)
    return {
        "id": batch.public_id,
        "status": states.shown_openai(status),
        "endpoint": batch.endpoint,
        **_common(batch, status, _errors(batch, None)),
    }


def _common(batch: Any, status: Status, errors: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "object": "batch",
        "model": batch.model,
        "input_file_id": batch.input_file_shown,
        "output_file_id": batch.output_file_shown if batch.completed else None,
        "error_file_id": batch.error_file_shown,
        "completion_window": "24h",
        **_times(batch, status),
        "estimated_completion_at": unix(batch.expected_at),
        "waiting_reason": waiting_reason(batch.waiting_reason),
        "errors": errors,
        "metadata": json.loads(batch.metadata),
        "request_counts": _counts(batch, status),
        "usage": _usage(batch),
        "prefix_cache": _prefix_cache(batch),
        "cost": _cost(batch, status),
        "sla": {"met": batch.sla_met, "credit_usd": money.usd(batch.sla_credit)},
        "paused_reason": batch.paused_reason or None,
        "max_cost_usd": None if batch.max_cost is None else money.usd(batch.max_cost),
        "max_error_rate": batch.max_error_rate,
        "on_invalid_line": batch.on_invalid_line,
        "retry_of": batch.retry_of_shown,
        "erased_at": unix(batch.erased_at),
    }


def file(file: File) -> dict[str, Any]:
    """The file object, as OpenAI's clients read it. Of a running batch's output: what it has so far is not measured."""
    return {
        "id": file.public_id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": unix(file.created_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed" if file.storage_key else "uploaded",
        "status_details": None,
        "expires_at": unix(file.expires_at),
    }


def made(batch: Batch) -> Batch:
    """A Batch that this process has just made, as `native` and `openai` want it: nothing is read for it."""
    for name in NAMES:
        setattr(batch, f"{name}_shown", getattr(getattr(batch, name), "public_id", None))
    return batch


def _times(batch: Batch, status: Status) -> dict[str, int | None]:
    ended = {f"{end}_at": unix(batch.ended_at) if status == end else None for end in states.TERMINAL}
    return {
        "created_at": unix(batch.created_at),
        "in_progress_at": unix(batch.in_progress_at),
        "expires_at": unix(batch.deadline),
        "cancelling_at": unix(batch.cancelling_at),
        "finalizing_at": unix(batch.finalizing_at),
        **ended,
    }


def waiting_reason(stored: str) -> dict[str, str] | None:
    """Of what the row says: a code, and a sentence."""
    if not stored:
        return None
    reason, _, message = stored.partition(": ")
    return {"code": reason, "message": message}


def _errors(batch: Batch, status: Status | None) -> dict[str, Any] | None:
    """What is wrong with the input; an expired batch shows as failed, and here says that it expired."""
    errors: dict[str, Any] = json.loads(batch.errors) if batch.errors else {"data": [], "counts": {}}
    if status == Status.EXPIRED:
        message = "The 24 hours passed before every line was run. What was finished is in the output."
        entry = {"code": "batch_expired", "line": None, "message": message, "param": None}
        errors = {"data": [entry, *errors["data"]], "counts": {"batch_expired": 1} | errors["counts"]}
    return {"object": "list", **errors} if errors["data"] else None


def _counts(batch: Batch, status: Status) -> dict[str, int]:
    never_run = batch.total - batch.completed - batch.failed
    return {
        "total": batch.total,
        "completed": batch.completed,
        "failed": batch.failed,
        "cancelled": never_run if status == Status.CANCELLED else 0,
        "expired": never_run if status == Status.EXPIRED else 0,
    }


def _cost(batch: Batch, status: Status) -> dict[str, str | None]:
    """So far; and what it may come to, for as long as that is reserved."""
    reserved = money.usd(batch.reserved) if status in RESERVED else None
    discount = _discount(batch.rates)
    return {"usd": money.usd(batch.cost), "currency": "usd", "discount": discount, "reserved_usd": reserved}


def _discount(rates: str) -> str | None:
    """The share that it is spared of the standard price: of its frozen rates, so null before it is validated, and
    where its models differ."""
    return money.share(rate.discount for rate in _rates.decode(rates).values())


def _prefix_cache(batch: Batch) -> dict[str, Any]:
    """How much of the prompts the upstreams had in their prefix caches."""
    share = round(batch.cached_tokens / batch.input_tokens, 4) if batch.input_tokens else None
    return {"cached_tokens": batch.cached_tokens, "input_tokens": batch.input_tokens, "share": share}


def _usage(batch: Batch) -> dict[str, Any]:
    return {
        "input_tokens": batch.input_tokens,
        "input_tokens_details": {"cached_tokens": batch.cached_tokens},
        "output_tokens": batch.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": batch.input_tokens + batch.output_tokens,
    }
