"""What must not grow: memory and open files of every process, rows that come and go. Sampled, and compared."""

import statistics
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import psycopg

from tests.soak.world import World

EVERY = 10.0  # seconds
ROLES = ("supervisor", "web", "chores", "runners")
WARM = 0.05  # of the time, at its start: what is loaded once
GROWN, ROWS = 1.15, 30.0  # the last quarter may be this times the first, and this much more
MORE = {"MB of the largest": 12.0, "open files of one, at most": 12.0, "runners: open files of one, at most": 60.0}
ENDED = "IN (SELECT id FROM batches_batch WHERE ended_at < now() - interval '2 minutes')"
COUNTS = {
    "permits": "SELECT count(*) FROM batches_permit",
    "runners": "SELECT count(*) FROM batches_runner",
    "tasks that are due": "SELECT count(*) FROM django_q_ormq WHERE lock <= now()",
    "slices of ended batches": f"SELECT count(*) FROM batches_slice WHERE batch_id {ENDED}",
    "segments of ended batches": f"SELECT count(*) FROM batches_segment WHERE batch_id {ENDED}",
    "submissions under way": "SELECT count(*) FROM batches_submission WHERE state = 'reserved'",
}
Sample = dict[str, float]  # figure: value; "at" in seconds from the start


class Growth(NamedTuple):
    """A figure's medians in the first and the last quarter, and its slope."""

    figure: str
    first: float
    last: float
    an_hour: float
    bound: float

    @property
    def flat(self) -> bool:
        return self.last <= self.bound


class Watch:
    """Samples a world, in a thread of its own, until `stop`."""

    def __init__(self, world: World) -> None:
        self.world, self.samples = world, list[Sample]()
        self.stop = Event()
        self.thread = Thread(target=self._run, name="watch", daemon=True)
        self.began = time.monotonic()

    def _run(self) -> None:
        while not self.stop.wait(EVERY):
            self.samples.append({"at": time.monotonic() - self.began} | self._processes() | self._rows())

    def _processes(self) -> Sample:
        """Of each role the largest process, and that with most open files; CPU seconds of all."""
        found: dict[str, list[tuple[float, float]]] = {role: [] for role in ROLES}
        for process in self.world.processes():
            with suppress(OSError, StopIteration):
                found[process.role].append(_sizes(process.pid))
        sample: Sample = {}
        for role, sizes in found.items():
            if sizes:
                sample[f"{role}: MB of the largest"] = max(memory for memory, _ in sizes)
                sample[f"{role}: open files of one, at most"] = max(files for _, files in sizes)
        return sample

    def _rows(self) -> Sample:
        sample: Sample = {"files in the spools": float(spooled(self.world))}
        with suppress(psycopg.Error):
            for name, query in COUNTS.items():
                sample[name] = float(self.world.sql(query)[0][0])
        return sample


def _sizes(pid: int) -> tuple[float, float]:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    memory = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))
    return memory, float(len(list(Path(f"/proc/{pid}/fd").iterdir())))


def spooled(world: World) -> int:
    homes = [world.service.home, *(host.home for host in world.hosts)]
    return sum(path.is_file() for home in homes for path in (home / "spool").rglob("*"))


def growths(samples: list[Sample], seconds: float) -> list[Growth]:
    """Every figure's, over the time that the load lasted."""
    figures = sorted({name for sample in samples for name in sample} - {"at"})
    warm = [sample for sample in samples if WARM * seconds <= sample["at"] <= seconds]
    return [growth for name in figures if (growth := _growth(name, warm, seconds))]


def _growth(name: str, samples: list[Sample], seconds: float) -> Growth | None:
    points = [(sample["at"], sample[name]) for sample in samples if name in sample]
    first = [value for at, value in points if at <= seconds / 4 + WARM * seconds]
    last = [value for at, value in points if at >= seconds * 3 / 4]
    if len(points) < 2 or not first or not last:
        return None
    slope = statistics.linear_regression(*zip(*points, strict=True)).slope * 3600
    more = MORE.get(name, MORE.get(name.partition(": ")[2], ROWS))  # a runner has a connection for each slot it had
    before = statistics.median(first)
    return Growth(name, before, statistics.median(last), slope, before * GROWN + more)


def as_json(growth: Growth) -> dict[str, Any]:
    return {**growth._asdict(), "flat": growth.flat}
