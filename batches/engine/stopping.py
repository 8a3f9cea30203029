"""How a runner learns that a graceful stop was asked for: django-q2 tells its workers nothing."""

import mmap


class StopFlag:
    """One byte shared with every process forked later: set by a signal handler, read by runners each turn."""

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    def set(self) -> None:
        self._byte[0] = 1

    def __call__(self) -> bool:
        return self._byte[0] == 1


stopping = StopFlag()
