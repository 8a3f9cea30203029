"""Token buckets as arithmetic, in whole nanoseconds. Pure: no clock, no Django.

A bucket holds `limit` requests and is refilled evenly in a minute. All that is kept of it is the moment at which it
will be full again (the generic cell rate algorithm): a bucket that is full need not be kept at all.
"""

from typing import NamedTuple

SECOND = 10**9  # nanoseconds
PERIOD = 60 * SECOND  # in which an empty bucket fills


class Allowance(NamedTuple):
    """What a bucket says to one request."""

    allowed: bool
    limit: int  # requests a minute, and at once
    remaining: int  # requests that would be allowed now
    reset: int  # nanoseconds until the bucket is full
    retry_after: int  # nanoseconds until there is room for one; 0 when this one was allowed


def take(full_at: int, now: int, limit: int) -> tuple[int, Allowance]:
    """Take one request of a bucket that is full at `full_at`; when it is full then. A refused one takes nothing."""
    one = max(PERIOD // limit, 1)  # nanoseconds in which one is refilled
    room = limit * one
    missing = max(full_at - now, 0)
    if missing + one > room:
        return full_at, Allowance(False, limit, 0, missing, missing + one - room)
    missing += one
    return now + missing, Allowance(True, limit, (room - missing) // one, missing, 0)
