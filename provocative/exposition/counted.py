"""The files in which the processes of this host count, for prometheus_client: of the dead ones, one is made.

Runners and chores are replaced again and again: without that there would be thousands of files in a week.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

from batches import identity, mapped

KINDS = ("counter", "histogram")
MERGED = "merged"  # in place of a pid


def begin(folder: Path) -> None:
    """An empty folder: the supervisor's lives begin with every count at 0."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()


def merge_dead(folder: Path) -> int:
    """Add up what processes counted that are gone; how many files went.

    The sum is in place before they go: who dies between leaves them counted twice, and a sum never falls, which would
    be taken for a restart.
    """
    gone = 0
    for kind in KINDS:
        dead = sorted(_dead(folder, kind))
        if dead:
            _merge(folder / f"{kind}_{MERGED}.db", dead)
        for path in dead:
            path.unlink()
        gone += len(dead)
    return gone


def _dead(folder: Path, kind: str) -> Iterator[Path]:
    for path in folder.glob(f"{kind}_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and identity.start_time(int(pid)) is None:
            yield path


def _merge(merged: Path, dead: list[Path]) -> None:
    sums: dict[str, float] = defaultdict(float)
    for path in [*([merged] if merged.exists() else []), *dead]:
        for key, value, *_ in MmapedDict.read_all_values_from_file(str(path)):
            sums[key] += value
    new = merged.with_suffix(".new")  # the collector reads *.db
    new.unlink(missing_ok=True)
    with open(new, "wb") as file:  # raises OSError where the disk is full: then the dead are kept until it is not
        os.posix_fallocate(file.fileno(), 0, 2 * mapped.ROOM + sum(len(key) + 64 for key in sums))
    written = mapped.Allocated(str(new))
    for key, value in sums.items():
        written.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    written.close()  # type: ignore[no-untyped-call]
    os.replace(new, merged)
