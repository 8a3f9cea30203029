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
BUDGET_SHARE, BUDGET_SECONDS = 0.2, 30.0  # retries are at most this part of what is sent over so long
BUDGET_PACE = 0.1  # seconds between retries beyond that part
BUDGET_CREDIT, BUDGET_CREDIT_CAP = 2, 100  # retries beyond it for a line delivered, and how many are saved up
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


class RetryBudget:
    """Delays retries that would be over a fifth of what an upstream is sent in 30 s; it holds none back for ever.

    Beyond the fifth, two go for each line delivered, and some at a steady pace: what is left when all lines were sent
    is not kept waiting for sends that never come, and an upstream that is well again has its retries fast.
    """

    __slots__ = ("_before", "_credit", "_free_at", "_half_ends", "_retries", "_sends")

    def __init__(self, now: float) -> None:
        self._sends = self._retries = self._credit = 0
        self._before = (0, 0)  # sends and retries of the half before
        self._half_ends, self._free_at = now + BUDGET_SECONDS / 2, now

    def sent(self, now: float) -> None:
        """A request goes out, be it a retry or not."""
        if now >= self._half_ends:
            self._turn(now)
        self._sends += 1

    def delivered(self) -> None:
        """A line was answered well."""
        if self._credit < BUDGET_CREDIT_CAP:
            self._credit += BUDGET_CREDIT

    def wait(self, now: float, jitter: Callable[[], float] = random) -> float:
        """0: a retry may go now, and is counted. Else the seconds after which to ask again."""
        if now >= self._half_ends:
            self._turn(now)
        sends, retries = self._before
        if self._retries + retries + 1 > BUDGET_SHARE * (self._sends + sends + 1):
            if self._credit:
                self._credit -= 1
            elif now >= self._free_at:
                self._free_at = now + BUDGET_PACE
            else:
                return self._free_at - now + jitter()
        self._retries += 1
        return 0.0

    def _turn(self, now: float) -> None:
        recent = now < self._half_ends + BUDGET_SECONDS / 2
        self._before = (self._sends, self._retries) if recent else (0, 0)
        self._sends = self._retries = 0
        self._half_ends = now + BUDGET_SECONDS / 2
