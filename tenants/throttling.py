"""How many requests a key may make: a bucket for each key, in this process's memory.

No query, and no limit over several web processes: each counts its own. docs/decisions/0014-request-rate.md
"""

import threading
import time
from collections.abc import Callable, Hashable

from tenants import buckets
from tenants.buckets import PERIOD, SECOND, Allowance
from tenants.errors import Refused

MILLISECOND = SECOND // 1000


class Throttle:
    """The buckets that are not full: at most one for each key that was used in the last two minutes.

    With `most`, no more than so many: those that were used last.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns, most: int | None = None) -> None:
        self._clock, self._most, self._lock = clock, most, threading.Lock()
        self._full_at: dict[Hashable, int] = {}  # by key, the one that was used last at the end
        self._swept_at = clock()

    def __len__(self) -> int:
        return len(self._full_at)

    def clear(self) -> None:
        """All are full again."""
        with self._lock:
            self._full_at.clear()

    def take(self, key: Hashable, limit: int) -> Allowance:
        """Count one request of `key`, at `limit` a minute."""
        with self._lock:
            now = self._clock()
            if now - self._swept_at >= PERIOD:
                self._swept_at = now
                self._full_at = {kept: full_at for kept, full_at in self._full_at.items() if full_at > now}
            self._full_at[key], allowance = buckets.take(self._full_at.pop(key, now), now, limit)
            if self._most is not None and len(self._full_at) > self._most:
                del self._full_at[next(iter(self._full_at))]
        return allowance


_requests = Throttle()


def count(key: int, limit: int) -> Allowance:
    """Count a request that was made with this key, by its row's number."""
    return _requests.take(key, limit)


def check(allowance: Allowance) -> None:
    """Raises Refused 429 with Retry-After, whole seconds from 1 up."""
    if not allowance.allowed:
        seconds = max(1, -(-allowance.retry_after // SECOND))
        message = f"This key may make {allowance.limit:,} requests a minute. Try again in {seconds} s."
        raise Refused(429, "rate_limit_exceeded", message, headers={"Retry-After": str(seconds)})


def headers(allowance: Allowance) -> dict[str, str]:
    """What every answer to the key says of it, by OpenAI's names."""
    return {
        "x-ratelimit-limit-requests": str(allowance.limit),
        "x-ratelimit-remaining-requests": str(allowance.remaining),
        "x-ratelimit-reset-requests": duration(allowance.reset),
    }


def duration(nanoseconds: int) -> str:
    """As OpenAI writes them: `50ms`, `1s`, `8.64s`; rounded up."""
    milliseconds = -(-nanoseconds // MILLISECOND)
    return f"{milliseconds}ms" if milliseconds < 1000 else f"{milliseconds / 1000:g}s"
