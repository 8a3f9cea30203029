"""How this host does: memory and files of its processes by their role, the disk under PROVOCATIVE_HOME, the version."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from django.conf import settings

from provocative import __version__
from provocative.exposition.gauges import Figure, Gauge

PROC = Path("/proc")
SUPERVISOR = "supervisor"
ROLE = b"PROVOCATIVE_ROLE="

BUILD = Gauge("build_info", "1; the version is the label.", ("version",))
MEMORY = Gauge("role_resident_memory_bytes", "Of its processes; shared pages count in each.", ("role",))
PROCESSES = Gauge("role_processes", "Processes under the supervisor.", ("role",))
OPEN = Gauge("role_open_fds", "File descriptors that its processes have open.", ("role",))
FREE = Gauge("home_free_bytes", "Free for the service on the disk of PROVOCATIVE_HOME.")
SIZE = Gauge("home_size_bytes", "Size of that disk.")
GAUGES = (BUILD, MEMORY, PROCESSES, OPEN, FREE, SIZE)


def read(supervisor: int) -> Iterator[Figure]:
    """Of the supervisor with this pid, and what it started."""
    yield BUILD, (__version__,), 1
    disk = os.statvfs(settings.HOME)
    yield FREE, (), disk.f_bavail * disk.f_frsize
    yield SIZE, (), disk.f_blocks * disk.f_frsize
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for pid in _family(supervisor):
        try:
            role = SUPERVISOR if pid == supervisor else _role(pid)
            resident = int((PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
            files = len(os.listdir(PROC / str(pid) / "fd"))
        except (OSError, IndexError):  # it has just ended
            continue
        sums[role] = [was + more for was, more in zip(sums[role], (1, resident, files), strict=True)]
    for role, figures in sums.items():
        yield from ((gauge, (role,), value) for gauge, value in zip((PROCESSES, MEMORY, OPEN), figures, strict=True))


def _family(ancestor: int) -> Iterable[int]:
    """It and all that descends from it."""
    children: dict[int, list[int]] = defaultdict(list)
    for path in PROC.iterdir():
        if path.name.isdigit():
            try:
                parent = int((path / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children[parent].append(int(path.name))
    found = [ancestor]
    for pid in found:  # it grows meanwhile
        found += children[pid]
    return found


def _role(pid: int) -> str:
    """As its child was started with."""
    for entry in (PROC / str(pid) / "environ").read_bytes().split(b"\0"):
        if entry.startswith(ROLE):
            return entry[len(ROLE) :].decode(errors="replace")
    return "other"
