"""Processes of ours from a warm start: forked from one that has imported much, and otherwise as anybody starts them.

Most of what a short command takes is imports, and hundreds of them would take minutes. What starts threads when it is
imported (Polars, PyArrow, Lance, OpenVINO) is left to each process.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from kb_pipeline import failpoints

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "kb_pipeline.cli.app",  # not what makes consoles: they look at the output they have when they are made
        "kb_pipeline.operations.replay",
        "kb_pipeline.control.runs.status",
        "kb_pipeline.operations.refresh",
        "kb_pipeline.defs.instance",
        "kb_pipeline_tests.warm",
        "rich.table",
        "tokenizers",
        "trafilatura",
    ]
)


class Running:
    """A process that was started, as `subprocess` gives it."""

    def __init__(self, process: ForkServerProcess, out: Path, err: Path) -> None:
        self._process, self._out, self._err = process, out, err

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, signum: signal.Signals) -> None:
        """Send it, unless the process has ended, which only its parent can know: as `subprocess` does."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # its parent is the fork server, which has seen its end first
                os.kill(self.pid, signum)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Its output and errors, once it has ended."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, "it goes on and on"
        told = self._out.read_text(), self._err.read_text()
        self._out.unlink()
        self._err.unlink()
        return told


def start(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path | None = None,
    given: Path | None = None,
) -> Running:
    """`python -m MODULE ARGUMENT...` in a folder, by default this one, with the content of a file as standard input."""
    out, err = _new_file(), _new_file()
    called, where = [module, *arguments], str(folder or Path.cwd())
    files = str(given or os.devnull), str(out), str(err)
    process = _CONTEXT.Process(target=_run, args=(called, dict(environment), where, *files))
    process.start()
    return Running(process, out, err)


def run(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path | None = None,
    given: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    running = start(module, arguments, environment, folder, given)
    out, err = running.communicate()
    assert running.returncode is not None
    return subprocess.CompletedProcess([module, *arguments], running.returncode, out, err)


def _new_file() -> Path:
    descriptor, name = tempfile.mkstemp(prefix="kb-test-")
    os.close(descriptor)
    return Path(name)


def _run(called: list[str], environment: dict[str, str], folder: str, given: str, *outputs: str) -> None:
    os.dup2(os.open(given, os.O_RDONLY), 0)
    sys.stdin = os.fdopen(0, closefd=False)  # multiprocessing has made it another file
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    importlib.reload(failpoints)  # it reads the environment when it is imported
    sys.argv = called
    try:
        runpy.run_module(called[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves these out
