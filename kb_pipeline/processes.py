"""Ties processes to each other: a child dies with its parent, and a process can tell whether another still runs."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

SAFE_PYTHON = (sys.executable, "-P")
"""The command that starts a child process. Without -P, Python would search the current folder, a tenant's perhaps, for
modules before all others."""
_PR_SET_PDEATHSIG = 1
"""prctl(2)."""


def die_with_parent(signum: signal.Signals, parent: int) -> None:
    """Have Linux send `signum` to this process when its parent dies; otherwise a killed run would leave its children.

    From then on this process ignores neither `signum` nor SIGINT, however the parent was started.

    Args:
        signum: the signal to send.
        parent: the process id of the parent, passed by the parent, which may have died before this call.

    Raises:
        SystemExit: the parent has died already.
    """
    if sys.platform != "linux":
        return
    for each in (signum, signal.SIGINT):
        # A script's background processes ignore SIGINT, and Dagster handles SIGTERM like SIGINT.
        if signal.getsignal(each) == signal.SIG_IGN:
            signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the parent process is gone")


def collect_garbage_rarely() -> None:
    """Run the garbage collector less often: it takes a tenth of a short process's start, mostly on imported modules."""
    gc.set_threshold(20_000, 20, 20)


def be_nice(level: int) -> None:
    """Raise the niceness of all threads of this process, and so of its future children, to `level`.

    This cannot be undone: a process without privileges may only become nicer.
    """
    for thread in Path("/proc/self/task").glob("*"):  # on Linux each thread has a niceness of its own
        with suppress(ProcessLookupError):
            if os.getpriority(os.PRIO_PROCESS, int(thread.name)) < level:
                os.setpriority(os.PRIO_PROCESS, int(thread.name), level)


def this_machine() -> str:
    """Return an id of the boot and the process namespace that process ids belong to; empty if /proc has none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        is_ours = Path("/proc/self").readlink().name == str(os.getpid())  # not the host's /proc in a container
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}" if is_ours else ""
    except OSError:
        return ""


def name_process(pid: int) -> str:
    """Return the process's id and start time, which together are unique on a machine; empty if it does not run."""
    try:
        return f"{pid}/{_stat(pid)[_START]}"
    except OSError:
        return ""


def is_running(process: str) -> bool:
    """Return whether a process named by `name_process` on this machine still runs; True when in doubt."""
    pid, _, start = process.partition("/")
    try:
        os.kill(int(pid), 0)
        fields = _stat(int(pid))
    except ProcessLookupError:
        return False
    except OSError:  # another user's process, which /proc may hide
        return True
    return fields[_STATE] not in "ZX" and fields[_START] == start


_STATE, _START = 0, 19


def _stat(pid: int) -> list[str]:
    """Return the fields of proc(5) from the third on; the second, a name in parentheses, may contain anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
