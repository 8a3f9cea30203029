"""What an upstream has answered in the last minute, as one runner saw it. Pure."""

from collections import deque
from typing import NamedTuple

SECONDS = 60.0


class Counts(NamedTuple):
    """Attempts by how they went, each in one of three, and the tokens of those that were delivered."""

    answers: int = 0  # the upstream did its work, also where it refused the line itself
    throttled: int = 0  # 429, 503
    errors: int = 0  # no answer, none that can be read, 5xx, the key refused
    tokens: int = 0


class Minute:
    """Counts as they come, and their sums over the last minute, as fine as `cut` is called often."""

    __slots__ = ("_past", "answers", "errors", "throttled", "tokens")

    def __init__(self) -> None:
        self._past: deque[tuple[float, Counts]] = deque()
        self.answers = self.throttled = self.errors = self.tokens = 0

    def cut(self, now: float) -> Counts:
        """End a span at `now`, in seconds of one monotonic clock: what the last minute had."""
        self._past.append((now, Counts(self.answers, self.throttled, self.errors, self.tokens)))
        self.answers = self.throttled = self.errors = self.tokens = 0
        while self._past[0][0] <= now - SECONDS:
            self._past.popleft()
        return Counts(*(sum(column) for column in zip(*(counts for _, counts in self._past), strict=True)))
