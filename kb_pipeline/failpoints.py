"""Failpoints: places where a test has the process killed, to prove that the next run recovers; no-ops otherwise."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

_KILL_AT = "KB_FAILPOINT"
"""`NAME` or `NAME:N`: kill -9 this process when it passes the failpoint for the N-th time (the first by default)."""
_SIGNAL = "KB_FAILPOINT_SIGNAL"
"""The signal to send instead of KILL: `STOP` makes a writer that continues after its lease was taken over."""
_TRACE = "KB_FAILPOINT_TRACE"
"""A file to which the name of every failpoint passed is appended."""

# Read once, so that failpoints cost a refresh nothing when the variables are unset.
_kill_at, _, _nth = os.environ.get(_KILL_AT, "").partition(":")
_signal = signal.Signals[f"SIG{os.environ.get(_SIGNAL, 'KILL')}"]
_trace = os.environ.get(_TRACE, "")
_passed: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Kill this process here if the environment names this failpoint."""
    if not (_kill_at or _trace):
        return
    _passed[name] += 1
    if _trace:
        with Path(_trace).open("a") as file:
            file.write(name + "\n")
    if name == _kill_at and _passed[name] == int(_nth or 1):
        os.kill(os.getpid(), _signal)
