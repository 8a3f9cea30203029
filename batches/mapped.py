"""prometheus_client's mapped files, on a disk that may be full.

It makes them sparse: the first number written to a page that the disk has no room for ends the process (SIGBUS).
Here the room is taken when a file is made; where there is none, the process counts in memory, for itself.
"""

import os
from contextlib import suppress

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

ROOM = 256 * 1024  # bytes: some 1,500 series


class Allocated(MmapedDict):
    """A mapped file whose pages the disk has."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        try:
            _make_room(filename)
        except OSError:
            filename = f"/proc/self/fd/{os.memfd_create('metrics')}"
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        if self._used + len(key.encode()) + 32 > self._capacity:  # it grows, to twice as much; raises OSError instead
            os.posix_fallocate(self._f.fileno(), 0, 2 * self._capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]


def _make_room(filename: str) -> None:
    """It gets its name once it has its room: an empty one would fail whoever reads them all. Raises OSError."""
    if os.path.exists(filename):
        return
    draft = f"{filename}.new"  # which nobody reads
    try:
        with open(draft, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, ROOM)
        os.rename(draft, filename)
    except OSError:
        with suppress(OSError):
            os.unlink(draft)
        raise


def install() -> None:
    """Have prometheus_client use it."""
    vars(values)["MmapedDict"] = Allocated
