"""Which processes a service has, and what they cost: CPU seconds and memory, by /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a process that only looks at itself needs no service
    from tests.service import Service

TICKS = os.sysconf("SC_CLK_TCK")


def runners(service: Service) -> list[int]:
    """The processes of the runners' cluster: its workers, and the few that keep them."""
    return _with(service, "qcluster", b"Q_CLUSTER_NAME=runners\0")


def web(service: Service) -> list[int]:
    """The web server and its worker."""
    return _with(service, "granian", b"PROVOCATIVE_ROLE=web\0")


def _with(service: Service, word: str, variable: bytes) -> list[int]:
    found = []
    for pid in service.processes(word):
        try:
            if variable in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of processes so far; of their dead children too."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(value) for value in fields[11:15])
    return total / TICKS


def resident(pid: int | str = "self") -> float:
    """MB in memory now."""
    return _status(pid, "VmRSS")


def peak(pid: int | str = "self") -> float:
    """The most MB in memory since `forget_peak`, or ever."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int | str = "self") -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


class Growth:
    """Of the process among several that grows most: MB above its own start, at its peak."""

    def __init__(self, pids: list[int]) -> None:
        for pid in pids:
            forget_peak(pid)
        self._start = {pid: resident(pid) for pid in pids}

    def most(self) -> float:
        grown = [peak(pid) - start for pid, start in self._start.items() if Path(f"/proc/{pid}").exists()]
        assert grown, "every process was replaced meanwhile"
        return max(grown)


def _status(pid: int | str, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no {field}")
