"""What our processes know of each other: to die with a parent, to tell whether another one still runs."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

SAFE_PYTHON = (sys.executable, "-P")
"""Starts a child of ours. Without -P the folder that somebody happens to be in, a tenant's perhaps, would be searched
for modules before all others."""
_PR_SET_PDEATHSIG = 1
"""prctl(2)."""


def die_with_parent(signum: signal.Signals, parent: int) -> None:
    """Have Linux send `signum` to this process when its parent dies; without it a killed run leaves its children.

    From then on neither it nor SIGINT is ignored, whoever started the parent.

    Args:
        signum: what to send.
        parent: process id of the parent, told by itself: it may have died before this call.

    Raises:
        SystemExit: the parent is gone already.
    """
    if sys.platform != "linux":
        return
    for each in (signum, signal.SIGINT):
        # What a script starts in the background ignores SIGINT, and Dagster has SIGTERM do what SIGINT does.
        if signal.getsignal(each) == signal.SIG_IGN:
            signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the parent process is gone")


def collect_garbage_rarely() -> None:
    """Look for cycles less often: a tenth of the start of a short process goes into looking through modules again."""
    gc.set_threshold(20_000, 20, 20)


def be_nice(level: int) -> None:
    """Leave the CPU to others that want it, in all threads of this process and in its children to come.

    There is no way back: a process without privileges may only become nicer.
    """
    for thread in Path("/proc/self/task").glob("*"):  # on Linux each thread has a niceness of its own
        with suppress(ProcessLookupError):
            if os.getpriority(os.PRIO_PROCESS, int(thread.name)) < level:
                os.setpriority(os.PRIO_PROCESS, int(thread.name), level)


def this_machine() -> str:
    """Name the boot and the process table that our process ids belong to, as `/proc` does; empty where it cannot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        is_ours = Path("/proc/self").readlink().name == str(os.getpid())  # not the host's, mounted in a container
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}" if is_ours else ""
    except OSError:
        return ""


def name_process(pid: int) -> str:
    """The process's id and start, which no later process has too; empty where it cannot be told."""
    try:
        return f"{pid}/{_stat(pid)[_START]}"
    except OSError:
        return ""


def is_running(process: str) -> bool:
    """Whether a process named by `name_process` on this machine still runs; when in doubt, it does."""
    pid, _, start = process.partition("/")
    try:
        os.kill(int(pid), 0)
        fields = _stat(int(pid))
    except ProcessLookupError:
        return False
    except OSError:  # another user's, which /proc may hide
        return True
    return fields[_STATE] not in "ZX" and fields[_START] == start


_STATE, _START = 0, 19


def _stat(pid: int) -> list[str]:
    """The fields of proc(5) from the third on: the second, a name in parentheses, may contain anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
