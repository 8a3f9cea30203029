"""Webhooks without their rows: the event's body, its signatures, and when it is sent again. Pure.

Source: Standard Webhooks (github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md), "v1" signatures.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Iterable
from datetime import date
from random import random
from typing import Any

from batches.core.states import TERMINAL

SPENDING = "billing.spending_alert"
EVENTS = (*(f"batch.{status}" for status in TERMINAL), SPENDING)
PREFIX = "whsec_"
SECRET_BYTES = 32
DELAYS = (5, 300, 1_800, 7_200, 18_000, 36_000, 36_000)  # seconds after each failed attempt: 28 hours in all
MAX_ATTEMPTS = len(DELAYS) + 1
SPREAD = 0.1  # of a delay, either way: what failed together does not come back together


def new_secret() -> str:
    """A signing secret as it is shown: `whsec_` and base64 of 256 random bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def hint(secret: str) -> str:
    """The secret, masked, so that two can be told apart."""
    return f"{PREFIX}…{secret[-4:]}"


def render(event: str, kind: str, created_at: int, subject: str) -> bytes:
    """The event's body: the same bytes each time. `created_at` is unix seconds, `subject` what it is about."""
    body = {"id": event, "object": "event", "created_at": created_at, "type": kind, "data": data(kind, subject)}
    return json.dumps(body, separators=(",", ":")).encode()


def data(kind: str, subject: str) -> dict[str, Any]:
    """The event's data: the batch's id; of an alert, which one."""
    if kind != SPENDING:
        return {"id": subject}
    _, month, percent = subject.split("_")
    return {"id": subject, "month": month, "percent": int(percent)}


def alert(month: date, percent: int) -> str:
    """The subject of an alert."""
    return f"spending_{month:%Y-%m}_{percent}"


def sign(secret: str, event: str, timestamp: int, body: bytes) -> str:
    """One signature: `v1,` and base64 of HMAC-SHA256 over id, timestamp and body, joined by dots."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{event}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def headers(live: Iterable[str], event: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers, with a signature by each live secret."""
    return {
        "webhook-id": event,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(secret, event, timestamp, body) for secret in live),
    }


def next_attempt(attempts: int, jitter: Callable[[], float] = random) -> float | None:
    """Seconds to wait after `attempts` failed attempts, or None: they were enough."""
    if attempts > len(DELAYS):
        return None
    return DELAYS[attempts - 1] * (1 - SPREAD + 2 * SPREAD * jitter())
