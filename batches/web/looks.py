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
    caps.OPERATOR: "by the operator",
}
DELIVERY_LOOKS = {
    WebhookDelivery.State.PENDING: ("Waits", "waiting"),
    WebhookDelivery.State.DELIVERED: ("Delivered", "good"),
    WebhookDelivery.State.FAILED: ("Failed", "bad"),
}
# Why an attempt failed, by the code of the log: what happened, and what to do.
DELIVERY_ERRORS = {
    "http_status": "That is no success: answer with a status from 200 to 299.",
    "redirect": "Redirects are not followed: correct the URL.",
    "timeout": "There was no answer within 15 seconds, or no connection within 5.",
    "connection_failed": "The connection was refused, or broke.",
    "tls_failed": "The certificate is not valid for this name, or not trusted.",
    "invalid_response": "What came back is no HTTP.",
    "name_not_resolved": "The host has no address: check the URL.",
    "address_not_allowed": "The host leads to an address that is not on the public internet.",
    "https_required": "The URL must begin with https://.",
    "invalid_url": "The URL can't be used.",
    "endpoint_disabled": "The endpoint was disabled while the event waited.",
    "sender_died": "The service failed while it sent: a fault of ours.",
    "secret_unreadable": "The signing secret can't be opened: a fault of ours.",
    "sender_failed": "The service failed while it sent: a fault of ours.",
}
NONE = "—"
UNREAD = (Status.VALIDATING, Status.FAILED)  # no model means: not known
MINUTE, HOUR, DAY = 60, 3600, 86_400  # seconds


class Moment(NamedTuple):
    """A time, UTC, as pages show it: `iso` is for machines."""

    iso: str
    day: str
    minute: str
    second: str


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
