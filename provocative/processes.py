"""What child processes need: to die with their parent."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies. Call it in the child, right after fork or start."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def forked_children_die_with_parent() -> None:
    """Every process forked from here on, at any depth, dies with the one that forked it."""
    os.register_at_fork(after_in_child=die_with_parent)
