"""The process supervisor behind `up`: keeps children running, calls periodic jobs, stops everything in order.

One thread and one loop, no event library: the kernel ties a child to the THREAD that forked it (PDEATHSIG), and a
fork beside other threads is a gamble.
"""

import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

from provocative.children import Child, Process

log = logging.getLogger(__name__)

TURN = 0.1  # seconds
INTERRUPTED = 128 + signal.SIGINT


class StopRequest:
    """What the operator's signals ask for: SIGTERM, SIGINT, SIGHUP a graceful stop, a second SIGINT one at once."""

    def __init__(self) -> None:
        self.asked = self.at_once = False
        self._interrupts = 0

    def listen(self) -> None:
        """Take the signals from here on. A SIGHUP that is ignored (nohup) stays so."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._interrupts += number == signal.SIGINT
        self.at_once = self._interrupts > 1


@dataclass
class Job:
    """Something the loop calls every `seconds`. What it raises is logged once, until it succeeds again."""

    name: str
    seconds: float
    call: Callable[[], object]
    due: float = 0.0
    failing: bool = False

    def turn(self, now: float) -> None:
        if now < self.due:
            return
        self.due = now + self.seconds
        try:
            self.call()
            self.failing = False
        except Exception:  # whatever it is, the children must be watched on
            if not self.failing:
                log.exception("%s failed; it is tried again every %.1f s", self.name, self.seconds)
            self.failing = True


class Supervisor:
    """Runs `children`, started in the given order and stopped in the reverse one, until `stop` is asked for.

    `leave` is called when it is, before the first of them is told.
    """

    def __init__(
        self,
        children: Sequence[Child],
        jobs: Sequence[Job] = (),
        stop: StopRequest | None = None,
        leave: Callable[[], object] = lambda: None,
    ) -> None:
        self.processes = [Process(child) for child in children]
        self._jobs = list(jobs)
        self._stop = stop or StopRequest()
        self._leave = leave

    def run(self) -> int:
        """Supervise until a stop is asked for; returns the exit code, 0 unless it was interrupted twice."""
        self._stop.listen()
        try:
            while not self._stop.asked:
                self._turn()
                time.sleep(TURN)
        finally:
            self._end()
        return INTERRUPTED if self._stop.at_once else 0

    def _turn(self) -> None:
        turns: list[Callable[[float], None]] = [each.turn for each in self.processes]
        turns += [each.turn for each in self._jobs]
        for turn in turns:
            if self._stop.asked:
                return
            turn(time.monotonic())

    def _end(self) -> None:
        asked = time.monotonic()
        self._leave()
        for group in reversed(self._groups()):
            self._linger(asked + max(process.child.lingers for process in group))
            self._end_together(group)

    def _groups(self) -> list[list[Process]]:
        groups: list[list[Process]] = []
        joined = False
        for process in self.processes:
            groups[-1:] = [[*groups[-1], process]] if joined else [*groups[-1:], [process]]
            joined = process.child.with_next
        return groups

    def _linger(self, until: float) -> None:
        while time.monotonic() < until and not self._stop.at_once:
            time.sleep(TURN / 2)

    def _end_together(self, group: list[Process]) -> None:
        """SIGTERM, then SIGKILL after each child's grace, or at once when that is asked for."""
        told = time.monotonic()
        for process in group:
            process.signal(signal.SIGTERM)
        left = list(group)
        while left := [process for process in left if not self._over(process, told)]:
            time.sleep(TURN / 2)

    def _over(self, process: Process, told: float) -> bool:
        """Whether it has ended; one whose time is over is ended."""
        late = time.monotonic() - told >= process.child.grace
        if process.gone():
            return True
        if late and not self._stop.at_once:
            log.warning("%s did not stop within %.0f s: killed", process.child.name, process.child.grace)
        if late or self._stop.at_once:
            process.kill()
        return late or self._stop.at_once
