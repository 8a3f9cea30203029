"""Who holds a lease: host, pid and the process's start, so that a death is told from the reuse of a pid."""

import os
import socket

HOST = socket.gethostname()


def start_time(pid: int) -> int | None:
    """The process's start in clock ticks since boot, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def own_start() -> int:
    """This process's start in clock ticks since boot."""
    return start_time(os.getpid()) or 0


def step_holder() -> str:
    """This process, as the first part of a step's token."""
    return f"{HOST}/{os.getpid()}/{own_start()}"
