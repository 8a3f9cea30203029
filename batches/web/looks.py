"""How batches and webhooks look on pages: the words and the colours of their states, and of times and amounts."""

from datetime import datetime
from typing import NamedTuple

from batches.core import caps
from batches.core.states import ACTIVE, Status
from batches.models import Batch, WebhookDelivery

# What a status looks like: busy and waiting batches move, good, bad and still ones have ended.
LOOKS = {
    Status.VALIDATING: "waiting",
    Status.IN_PROGRESS: "busy",
    Status.CANCELLING: "waiting",
    Status.EXPIRING: "waiting",
    Status.FINALIZING: "busy",
    Status.COMPLETED: "good",
    Status.FAILED: "bad",
    Status.CANCELLED: "still",
    Status.EXPIRED: "bad",
}
LABELS = {status: status.replace("_", " ").capitalize() for status in Status}
PAUSES = {
    caps.MAX_COST: "cost limit reached",
    caps.MAX_ERROR_RATE: "too many lines failed",
    caps.CREDITS: "credits used up",
    caps.SPENDING: "spending limit reached",
}
# What to do about the bad lines of a code, in a file that can be mended.
CURES = {
    "empty_file": "Check which file you chose.",
    "too_many_requests_in_batch": "Split the file.",
    "invalid_json_line": "Write one JSON object a line, in UTF-8, not compressed.",
    "line_too_large": "Make the line smaller; link to images instead of embedding them.",
    "nesting_too_deep": "Flatten the JSON.",
    "missing_custom_id": "Give every line a custom_id of its own.",
    "invalid_custom_id": "Shorten it to 512 characters; no line breaks or tabs.",
    "duplicate_custom_id": "Make each custom_id unique within the file.",
    "invalid_method": "Leave method out.",
    "url_mismatch": "Leave url out, or choose the right endpoint below the file.",
    "missing_body": "Put the request into body.",
    "invalid_body": "Write body as the endpoint takes it; or choose another endpoint.",
    "missing_model": "Name the model in body.model.",
    "model_not_found": "Check the name: the models that you can reach stand above, beside the three lines to try.",
    "stream_not_supported": "Leave stream out: a batch's answers come whole.",
    "duplicate_key": "Keep one of the two.",
    "input_missing": "Upload the file again, and tell the operator.",
}


def cents(usd: str) -> str:
    """USD with two decimals at least; none of those there are is dropped."""
    whole, _, fraction = usd.partition(".")
    return f"{whole}.{fraction:0<2}"


def label(batch: Batch) -> str:
    return "Paused" if batch.paused_reason else LABELS[Status(batch.status)]


def look(batch: Batch) -> str:
    return "waiting" if batch.paused_reason else LOOKS[Status(batch.status)]


def models(batch: Batch) -> str:
    return batch.model or (NONE if batch.status in UNREAD else "several")


def moment(at: datetime) -> Moment:
    text = at.isoformat(" ", "seconds")
    return Moment(text.replace(" ", "T"), text[:10], text[11:16], text[11:19])


def lasted(seconds: float) -> str:
    """A length of time in the two largest units that matter: "42 s", "12 min", "3 h 20 min", "2 d 4 h"."""
    whole = int(seconds)
    if whole < 1:
        return "under 1 s"
    if whole < MINUTE:
        return f"{whole} s"
    if whole < 10 * MINUTE and whole % MINUTE:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min"
    large, small, names = (HOUR, MINUTE, ("h", "min")) if whole < DAY else (DAY, HOUR, ("d", "h"))
    rest = whole % large // small
    return f"{whole // large} {names[0]}" + (f" {rest} {names[1]}" if rest else "")


def ahead(at: datetime, now: datetime) -> str:
    """When something foreseen comes, no finer than a forecast is: "in 40 s", "in 12 min", "any moment"."""
    seconds = (at - now).total_seconds()
    if seconds < 5:
        return "any moment"
    if seconds < MINUTE:
        return f"in {int(seconds) // 5 * 5} s"
    return f"in {lasted(seconds // MINUTE * MINUTE)}"


def expected(batch: Batch, now: datetime) -> str:
    """When an active batch should end; empty where nobody knows."""
    if batch.expected_at is None or batch.status not in ACTIVE or batch.paused_reason:
        return ""
    return ahead(batch.expected_at, now)
