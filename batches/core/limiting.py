"""How an upstream's in-flight slots are shared by runners, and how many of its slots a runner uses. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

CAPACITY_STATUS = frozenset({429, 503})
CAPACITY_SHARE = 0.1  # of a window's answers: more capacity errors than this cut the limit
CUT_TENTHS = 7  # a cut leaves so many tenths, rounded up


class Holding(NamedTuple):
    """What a live runner holds of an upstream and could use."""

    slots: int
    wanted: int


def fair_share(wants: Sequence[int], total: int) -> list[int]:
    """Divide `total` slots: nobody gets more than it wants, and what one leaves goes to the others (max-min)."""
    shares = [0] * len(wants)
    left = total
    waiting = sorted(range(len(wants)), key=lambda index: wants[index])
    for rank, index in enumerate(waiting):
        shares[index] = min(wants[index], -(-left // (len(waiting) - rank)))
        left -= shares[index]
    return shares


class Granted(NamedTuple):
    """What a runner has of an upstream."""

    slots: int  # leased: never fewer than are in flight
    limit: int  # how many may be in flight from now on: fewer, while it gives some back


def grant(total: int, holdings: Sequence[Holding], index: int, busy: int) -> Granted:
    """What the runner at `index` has from now on, so that the sum of slots never exceeds `total`.

    `holdings` are every live runner's in one stable order, so that all agree on who has the odd slot. It shrinks to
    its share, but not below what it has in flight (`busy`); it grows only by what nobody holds.
    """
    mine = holdings[index]
    share = fair_share([holding.wanted for holding in holdings], total)[index]
    if share <= mine.slots:
        return Granted(max(share, min(busy, mine.slots)), share)
    free = total - sum(holding.slots for holding in holdings)
    slots = mine.slots + min(share - mine.slots, max(free, 0))
    return Granted(slots, slots)


def is_capacity(status: int | None, code: str) -> bool:
    """Whether a failure says that the upstream has too much to do: 429, 503, or no answer in time."""
    return status in CAPACITY_STATUS or code == "request_timeout"


class Adaptive:
    """How many requests an upstream takes at once, learned from its answers: additive increase, multiplicative cut.

    A window is as many answers as may be in flight: about one round trip. Over a tenth of capacity errors in it cut the
    limit to 7/10, none add one, few leave it. Answers to what was sent before a cut don't count: one cut a round trip.
    A slot that met a capacity error stays closed until its window ends. A limit that was cut down to 1 opens again by
    doubling, until the first capacity error. `granted` is what the runner may have in flight at most; times are seconds
    on one monotonic clock. Source: Chiu and Jain, 1989 (AIMD).
    """

    __slots__ = ("_answers", "_errors", "_most", "_opening", "_since", "limit", "open", "settled")

    def __init__(self, most: int) -> None:
        self._most = self.limit = self.open = most
        self.settled = 1  # so many at once did well, as far as is known
        self._answers = self._errors = 0
        self._since = float("-inf")
        self._opening = False

    def allow(self, most: int) -> None:
        """The operator's limit is now `most`; one that was never cut, or has recovered, follows it."""
        if most != self._most:
            self.limit = most if self.limit >= self._most else min(self.limit, most)
            self._most, self.open = most, min(self.limit, most)

    def saw(self, capacity_error: bool, sent: float, now: float, granted: int) -> bool:
        """An answer to what was sent at `sent`; whether it ended a window, so that slots may have opened."""
        if sent < self._since:
            return False
        size = max(1, min(self.limit, granted))
        self._answers += 1
        if capacity_error:
            self._errors += 1
            self.open = max(1, size - self._errors)
        if self._answers < size:
            return False
        self._end_window(size, now)
        return True

    def is_lines_own(self, in_flight: int) -> bool:
        """Whether a refusal, with so many in flight when it was sent, is the line's: so many have done well before."""
        return in_flight <= self.settled

    def _end_window(self, size: int, now: float) -> None:
        answers, errors = self._answers, self._errors
        self._answers = self._errors = 0
        if errors <= CAPACITY_SHARE * answers:
            self.settled = max(self.settled, size)
            if not errors and size == self.limit:
                self.limit = min(self._most, size * 2 if self._opening else size + 1)
            self._opening = self._opening and not errors
        elif size > 1 or self.limit == 1:  # a line that is alone, where more may be sent, tells nothing of capacity
            self.settled = self.settled if size > self.settled else 1
            self.limit = max(1, min(size - 1, -(-size * CUT_TENTHS // 10)))
            self._since, self._opening = now, self.limit == 1
        self.open = self.limit
