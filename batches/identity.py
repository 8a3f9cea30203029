"""Who holds a lease: host, pid and the process's start, so that a death is told from the reuse of a pid."""

import hashlib
import os
import socket
from pathlib import Path

from django.conf import settings


def _host() -> str:
    """The host's name, and what tells those of one name apart: machine, container, PROVOCATIVE_HOME.

    Its processes are judged by their pids, so two hosts must never take each other for themselves.
    """
    parts = [str(settings.HOME), os.readlink("/proc/self/ns/pid")]
    parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    return f"{socket.gethostname()}-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:8]}"


HOST = _host()


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
