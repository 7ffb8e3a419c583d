"""What every child process of ours does first: arrange to die with its parent."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""prctl(2)."""


def die_with_parent(signum: signal.Signals, parent: int) -> None:
    """Have Linux send `signum` to this process when its parent dies; without it a killed run leaves its children.

    Args:
        signum: what to send.
        parent: process id of the parent, told by itself: it may have died before this call.

    Raises:
        SystemExit: the parent is gone already.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the parent process is gone")


def collect_garbage_rarely() -> None:
    """Look for cycles less often: a tenth of the start of a short process goes into looking through modules again."""
    gc.set_threshold(20_000, 20, 20)
