"""Commits a group of results in a thread of its own while the event loop goes on sending. One group at a time.

The thread has a database connection of its own. What it shares with the loop's thread: it counts `Held.open` down,
drops from `Held.carried` and may set `Held.stopped`; the runner looks at these between turns, when it has waited for
the thread. docs/decisions/0013-commits-beside-the-loop.md
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from django.db import Error as DatabaseError
from django.db import connection

from batches.engine.commit import commit
from batches.engine.pump import FLUSH_RESULTS, Outcome
from tenants import scope

GROUP_RESULTS = 2 * FLUSH_RESULTS  # in one transaction: a turn ends with a few more than it waited for
MAX_GROUP_BYTES = 8 * 1024 * 1024  # of bodies in one transaction, unless a single one is larger


def first_group(outcomes: list[Outcome]) -> list[Outcome]:
    """The first of them, as many as one transaction should hold."""
    size = 0
    for count, outcome in enumerate(outcomes[:GROUP_RESULTS]):
        size += len(outcome.verdict.body)
        if count and size > MAX_GROUP_BYTES:
            return outcomes[:count]
    return outcomes[:GROUP_RESULTS]


class Committer:
    """The thread, and the group it has."""

    def __init__(self, wake: Callable[[], object]) -> None:
        """`wake` ends the loop's turn: it is called, in the thread, when a batch was paused by its results."""
        self._wake = wake
        self._thread = ThreadPoolExecutor(1, "commit")
        self._under_way: tuple[list[Outcome], Future[None]] | None = None

    def start(self, group: list[Outcome]) -> None:
        """Commit it. Call `wait` before the next one."""
        self._under_way = (group, self._thread.submit(scope.carried(self._commit), group))

    def wait(self) -> tuple[list[Outcome], DatabaseError | None]:
        """The group that was under way, once it is stored or has failed."""
        if self._under_way is None:
            return [], None
        (group, future), self._under_way = self._under_way, None
        error = future.exception()
        if error is not None and not isinstance(error, DatabaseError):
            raise error
        return group, error

    def close(self) -> None:
        self._thread.submit(_disconnect)
        self._thread.shutdown()

    def _commit(self, group: list[Outcome]) -> None:
        try:
            commit(group)
        except BaseException:
            connection.close()
            raise
        if any(outcome.line.held.stopped for outcome in group):
            self._wake()


def _disconnect() -> None:
    connection.close()  # this thread's
