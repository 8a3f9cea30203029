"""Slices that lost two runners in a row without a commit between: a line that kills its runner must fail alone.

A suspect is run by a runner that has nothing else in hand. Its lines go out one, then two, then four, each group once
the one before is committed. A death with a sole line in flight counts against that line, which was written to the
slice before it was sent; after three such deaths it fails. A death with more in flight counts against none: the next
runner begins with one line again, so a killer among n lines is found in about log2(n) deaths, and kills from outside
fail no innocent line. docs/decisions/0010-suspects.md
"""

import logging
from collections import deque

from batches.core.answers import Verdict
from batches.engine import leases
from batches.engine.lines import Held, Line
from batches.engine.pump import Pump

log = logging.getLogger(__name__)

MAX_DEATHS = 3
CRASHED = Verdict(final=True, code="worker_crashed")


class Parole:
    """A suspect in hand, and its lines that were not let out yet."""

    def __init__(self, held: Held, lines: list[Line]) -> None:
        self._held, self._kept, self._window = held, deque(lines), 1

    def widen(self, pump: Pump) -> bool:
        """Let the next group out once the one before is committed; False when there is nothing left to suspect.

        Call it when every outcome is committed. Lines that wait for a retry were answered: they are not waited for.
        """
        held = self._held
        if held.stopped or held.in_flight or pump.lane(held.lane).ready:
            return True
        if not self._kept:  # its last group is stored too: while it was in flight, nothing else was
            return False
        size = min(self._window, len(self._kept))
        if size == 1 and not self._may_go(pump, self._kept[0]):
            return True
        self._window *= 2
        pump.admit(held, [self._kept.popleft() for _ in range(size)])
        return True

    def _may_go(self, pump: Pump, line: Line) -> bool:
        """Write down that it is sent alone; after three deaths it is not, and fails."""
        sends = leases.accuse(line.held.claim, line.number)
        if sends == 0:
            line.held.stopped = line.held.lost = True
        elif sends > MAX_DEATHS:
            log.error("line %d of %s killed its runner %d times", line.number, line.held.claim.named[0], MAX_DEATHS)
            line.attempts = MAX_DEATHS
            pump.fail(self._kept.popleft(), CRASHED)
            self._window = 1
        return 0 < sends <= MAX_DEATHS
