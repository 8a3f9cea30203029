"""A child of the supervisor: how it is run, and its process over its lives (start, death, backoff, wedge, end)."""

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from batches import measures
from provocative.processes import die_with_parent

log = logging.getLogger(__name__)

FIRST_DELAY, LONGEST_DELAY = 0.2, 10.0  # seconds before a restart, doubling
GOOD_LIFE = 30.0  # seconds alive after which the delay starts anew
HEALTH_EVERY = 2.0  # seconds between two health checks of a child
STDERR = 2


def always_healthy() -> bool:
    """The health check of a child that has none."""
    return True


@dataclass(frozen=True)
class Child:
    """How to run one child. One whose `healthy` fails for `patience` seconds is wedged; `grace` is its time to stop.

    At a stop it stays for `lingers` seconds at least; `with_next` stops together with the child started after it.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)  # on top of the supervisor's own
    healthy: Callable[[], bool] = always_healthy
    patience: float = 30.0
    grace: float = 10.0
    lingers: float = 0.0
    with_next: bool = False


class Process:
    """The process of a Child. Times are seconds of one monotonic clock, given by the caller."""

    def __init__(self, child: Child) -> None:
        self.child = child
        measures.supervised(child.name)
        self.delay = 0.0  # before the next start
        self._popen: subprocess.Popen[bytes] | None = None
        self._started = self._start_at = self._next_check = 0.0
        self._failing_since: float | None = None

    @property
    def pid(self) -> int | None:
        """Of the child's main process, while it has one."""
        return self._popen.pid if self._popen else None

    def turn(self, now: float) -> None:
        """Notice a death, end a wedge, start what is due."""
        if self._popen and self._reap():
            measures.CHILD_EXITS.labels(self.child.name).inc()
            self._plan_restart(now)
        if self._popen and self._wedged(now):
            log.error("%s (pid %d) is wedged: killed", self.child.name, self._popen.pid)
            measures.CHILD_WEDGES.labels(self.child.name).inc()
            self.kill()
            self._plan_restart(now)
        if not self._popen and now >= self._start_at:
            self._start(now)

    def signal(self, number: int) -> None:
        """Signal the main process alone: a signal to the whole group hangs django-q2."""
        if self._popen:
            os.kill(self._popen.pid, number)  # not Popen's: that one reaps a dead child behind our back

    def gone(self) -> bool:
        """Whether nothing of it runs any more."""
        return self._popen is None or self._reap()

    def kill(self) -> None:
        """End it and all that it started, at once."""
        self.signal(signal.SIGKILL)
        self._reap(block=True)

    def _start(self, now: float) -> None:
        self._started, self._failing_since, self._next_check = now, None, now
        parent = os.getpid()
        try:
            self._popen = subprocess.Popen(
                self.child.argv,
                env=os.environ | dict(self.child.env),
                stdin=subprocess.DEVNULL,
                stdout=STDERR,  # stdout is for what programs read of the supervisor
                start_new_session=True,
                preexec_fn=lambda: _tie_to(parent),  # noqa: PLW1509 - locks nothing; none but Sentry's sender is beside
            )
        except (OSError, subprocess.SubprocessError) as error:
            log.error("%s does not start: %s", self.child.name, error)
            self._plan_restart(now)

    def _plan_restart(self, now: float) -> None:
        if now - self._started >= GOOD_LIFE:
            self.delay = 0.0
        self.delay = min(self.delay * 2, LONGEST_DELAY) or FIRST_DELAY
        self._start_at = now + self.delay

    def _wedged(self, now: float) -> bool:
        """The check has failed for `patience` seconds in a row; a child that still starts has as long before it."""
        if now < max(self._next_check, self._started + self.child.patience):
            return False
        self._next_check = now + HEALTH_EVERY
        if self._healthy():
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = now
        return self._failing_since is not None and now - self._failing_since >= self.child.patience

    def _healthy(self) -> bool:
        try:
            return self.child.healthy()
        except Exception as error:  # the check could not be made (no database): that says nothing about the child
            log.debug("health of %s is not known: %s", self.child.name, error)
            return True

    def _reap(self, block: bool = False) -> bool:
        """Whether the main process is dead; then its leftovers are killed, and only then is its pid given back."""
        popen = self._popen
        if popen is None:
            return True
        options = os.WEXITED | os.WNOWAIT | (0 if block else os.WNOHANG)
        if os.waitid(os.P_PID, popen.pid, options) is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(popen.pid, signal.SIGKILL)
        self._popen = None
        log.info("%s (pid %d) has ended: %s", self.child.name, popen.pid, _describe(popen.wait()))
        return True


def _tie_to(parent: int) -> None:
    """In the new child: die with `parent`, also when it died before this line.

    SIGKILL for every child: a supervisor that was killed hard is a crash, which leases heal. A polite signal would
    leave orphans for half a minute that hold the port and the leases against the supervisor's successor.
    """
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)


def _describe(status: int) -> str:
    return f"exit code {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"
