"""When a line is tried again, and when that is given up. Pure: times are seconds on one monotonic clock.

Source of the backoff: "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), full jitter.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import random

MAX_ATTEMPTS = 8
BACKOFF_BASE, BACKOFF_CAP = 1.0, 60.0  # seconds
COUNTED_BELOW = 1.0  # seconds
RETRY_AFTER_CAP = 300.0  # seconds
COOL_BASE, COOL_CAP = 0.5, 30.0  # seconds an upstream that can't be reached is left alone


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, capped; None when it is absent or makes no sense."""
    if not header:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text.lstrip("0")[:9] or 0), RETRY_AFTER_CAP)
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:  # asctime's form has none: it is UTC
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_CAP)


def is_wait(asked: float | None) -> bool:
    """Whether a valid Retry-After is a wait that counts no attempt: an upstream that is full says so for long.

    One of less than a second counts, so that nothing asks in a circle.
    """
    return asked is not None and asked >= COUNTED_BELOW


def backoff(attempts: int, jitter: Callable[[], float] = random) -> float:
    """Seconds to wait after `attempts` failed attempts: a random part of 1 s doubling to 60 s."""
    return min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(attempts - 1, 16)) * jitter()


def next_attempt(attempts: int, asked: float | None, jitter: Callable[[], float] = random) -> float | None:
    """Seconds until the next attempt, or None: `attempts` were enough. `asked` is the valid Retry-After."""
    if attempts >= MAX_ATTEMPTS:
        return None
    return backoff(attempts, jitter) if asked is None else asked


def cooling(failures: int) -> float:
    """Seconds to leave an upstream alone after `failures` failures in a row to reach it."""
    return min(COOL_CAP, COOL_BASE * 2.0 ** min(failures - 1, 16))
