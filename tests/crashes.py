"""Deaths at named points: a forked worker kills itself there, and the test goes on as `up` would.

One seam for all: a point is a function of the product, and whether the process dies before it is called or after it
has returned. The product knows nothing of it.
"""

import importlib
import inspect
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from django.db import connections

from batches import identity
from batches.engine import leases

PATIENCE = 60.0  # seconds a worker may take to come to its point


class Point(NamedTuple):
    """Where a worker dies: before or after the `call`-th call of module.attribute."""

    module: str
    attribute: str
    when: Literal["before", "after"]
    call: int = 1


RUNNING = {
    "after_register": Point("batches.engine.leases", "register", "after"),
    "after_permits": Point("batches.engine.permits", "settle", "after"),
    "in_claim": Point("batches.engine.leases", "as_claim", "before"),
    "after_claim": Point("batches.engine.leases", "claim", "after"),
    "after_second_claim": Point("batches.engine.leases", "claim", "after", 2),
    "before_send": Point("batches.engine.upstream", "Client.post", "before", 5),
    "after_send": Point("batches.engine.wire", "Connection.data_received", "before", 9),
    "after_response": Point("batches.engine.upstream", "Client.post", "after", 13),
    "before_commit": Point("batches.recording", "pack", "before", 4),
    "in_commit_after_segment": Point("batches.recording", "_insert", "before", 4),
    "in_commit_after_rows": Point("batches.recording", "_insert", "after", 4),
    "in_commit_after_counters": Point("batches.engine.commit", "_count", "after", 4),
    "in_commit_after_usage": Point("batches.metering", "add", "after", 4),
    "in_commit_after_slices": Point("batches.engine.commit", "_advance_slices", "after", 4),
    "after_commit": Point("batches.engine.committing", "commit", "after", 2),
    "in_last_commit": Point("batches.lifecycle", "finalize_now", "after"),
}
STOPPING = {
    "before_release": Point("batches.engine.leases", "release", "before"),
    "after_release": Point("batches.engine.leases", "release", "after"),
    "after_hand_over": Point("batches.engine.leases", "hand_over", "after"),
    "before_unregister": Point("batches.engine.leases", "unregister", "before"),
}
VALIDATING = {
    "after_validate_claim": Point("batches.lifecycle", "claim_step", "after"),
    "validate_half_plan": Point("batches.objects", "Writer.write", "after", 5),
    "validate_after_plan": Point("batches.validation", "_plan", "after"),
    "validate_in_start": Point("batches.lifecycle", "transition", "after"),
    "validate_before_bell": Point("batches.tasks", "ring_work", "before"),
    "validate_after_start": Point("batches.validation", "_start", "after"),
}
FINALIZING = {
    "after_finalize_claim": Point("batches.lifecycle", "claim_step", "after"),
    "finalize_before_files": Point("batches.results", "_write", "before"),
    "finalize_half_file": Point("batches.objects", "Writer.write", "after", 7),
    "finalize_between_files": Point("batches.results", "_store", "after"),
    "finalize_after_files": Point("batches.results", "_write", "after"),
    "finalize_after_file_rows": Point("batches.results", "_file", "after", 3),
    "finalize_after_charge": Point("billing.ledger", "charge_batch", "after"),
    "finalize_in_end": Point("batches.lifecycle", "transition", "after"),
    "after_end": Point("batches.results", "drop_scaffolding", "before"),
    "after_segments": Point("batches.objects", "delete", "before"),
}


def fork(work: Callable[[], object]) -> int:
    """Do `work` in a process of its own with connections of its own; its pid. It never returns into the tests."""
    connections.close_all()
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(3)


def end(pid: int) -> int:
    """Wait for a forked process: minus the signal that ended it, or its exit code."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"a forked process took more than {PATIENCE} s")
        time.sleep(0.005)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def bury() -> int:
    """As `up` does twice a second: end the leases of runners and steps whose process is gone."""
    return leases.bury(identity.HOST, lambda pid, ticks: identity.start_time(pid) == ticks)


def die_at(point: Point, work: Callable[[], object], noticed: bool = True) -> None:
    """Have a forked process do `work` and die at `point`; AssertionError when it never came there. Then it is buried,
    unless nobody notices."""
    status = end(fork(_armed(point, signal.SIGKILL, work)))
    assert status == -signal.SIGKILL, f"{point} was never passed: the worker ended with {status}"
    if noticed:
        bury()


def may_die_at(point: Point, work: Callable[[], object]) -> bool:
    """The same where nobody knows whether it comes there; whether it did. Nobody is buried."""
    status = end(fork(_armed(point, signal.SIGKILL, work)))
    assert status in (0, -signal.SIGKILL), f"the worker ended with {status}"
    return status != 0


def stall_at(point: Point, work: Callable[[], object]) -> int:
    """Have a forked process do `work` and stop at `point`, as if its machine slept; its pid. Go on with `resume`."""
    pid = fork(_armed(point, signal.SIGSTOP, work))
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), f"{point} was never passed: the worker ended with {status}"
    return pid


def resume(pid: int) -> int:
    """Let a stalled process go on to its end; its exit code."""
    os.kill(pid, signal.SIGCONT)
    return end(pid)


def _armed(point: Point, number: int, work: Callable[[], object]) -> Callable[[], None]:
    def doomed() -> None:
        _arm(point, number)
        work()

    return doomed


def _arm(point: Point, number: int) -> None:
    *path, name = point.attribute.split(".")
    owner: Any = importlib.import_module(point.module)
    for part in path:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    calls = 0

    def die() -> None:
        nonlocal calls
        calls += 1
        if calls == point.call:
            signal.pthread_kill(threading.get_ident(), number)  # to this thread: it does not go on for a moment

    def doomed(*args: Any, **kwargs: Any) -> Any:
        if point.when == "before":
            die()
        found = original(*args, **kwargs)
        if point.when == "after":
            die()
        return found

    async def doomed_async(*args: Any, **kwargs: Any) -> Any:
        if point.when == "before":
            die()
        found = await original(*args, **kwargs)
        if point.when == "after":
            die()
        return found

    setattr(owner, name, doomed_async if inspect.iscoroutinefunction(original) else doomed)
