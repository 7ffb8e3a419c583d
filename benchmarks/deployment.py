"""Runs a whole installation for a benchmark: a fresh home, and `kb ui` on it, restarted when it dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def fresh_home(folder: Path) -> Iterator[None]:
    """Set the environment of this process and its children to a home there that may fetch from loopback."""
    before = dict(os.environ)
    os.environ.pop("KB_DATABASE_URL", None)
    os.environ.update(KB_HOME=str(folder), KB_ALLOW_PRIVATE_NETWORKS="127.0.0.0/8")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Supervisor:
    """Restarts `kb ui` when it ends, as systemd would."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._command = [sys.executable, "-m", "kb_pipeline", "ui", "--port", str(free.getsockname()[1])]
        self._log = (folder / "ui.log").open("ab")
        self._stop = threading.Event()
        self.process = self._start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop `kb ui` and all its processes."""
        self._stop.set()
        self._thread.join()
        for pid, _ in descendants(os.getpid()):
            kill(pid)
        self.process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)

    def _watch(self) -> None:
        while not self._stop.wait(1):
            if self.process.poll() is not None:
                self.process = self._start()


def descendants(root: int) -> Iterator[tuple[int, str]]:
    """Return process id and command line of all descendants of `root`, also of orphans, which the reaper adopts."""
    seen = {root}
    for pid, parent, command in sorted(_processes()):
        if parent in seen:
            seen.add(pid)
            yield pid, command


def _processes() -> Iterator[tuple[int, int, str]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (OSError, ValueError):
                continue
            yield int(folder.name), parent, command


def kill(pid: int) -> None:
    """Send SIGKILL to a process if it still runs."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait(is_so: Callable[[], object], seconds: float) -> bool:
    """Poll until the condition holds; return whether it did in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
