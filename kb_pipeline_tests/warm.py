"""Processes of ours from a warm start: forked from one that has imported much, and otherwise as anybody starts them.

Most of what a short command takes is imports, and hundreds of them would take minutes. What starts threads when it is
imported (Polars, PyArrow, LanceDB, OpenVINO) is left to each process.
"""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from kb_pipeline import failpoints

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "kb_pipeline.cli.app",  # not what makes consoles: they look at the output they have when they are made
        "kb_pipeline.control.replay",
        "kb_pipeline.control.status",
        "kb_pipeline.control.workspace",
        "kb_pipeline.defs.instance",
        "kb_pipeline_tests.warm",
        "rich.table",
        "tokenizers",
        "trafilatura",
    ]
)


@dataclass(frozen=True)
class Running:
    """A process that was started."""

    process: ForkServerProcess
    out: Path
    err: Path

    def wait(self) -> tuple[int, str, str]:
        """Exit status as of `subprocess`, output and errors."""
        self.process.join()
        assert self.process.exitcode is not None
        done = self.process.exitcode, self.out.read_text(), self.err.read_text()
        self.out.unlink()
        self.err.unlink()
        return done


def start(module: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None = None) -> Running:
    """`python -m MODULE ARGUMENT...` in a folder, by default this one."""
    out, err = (Path(tempfile.mkstemp(prefix="kb-test-")[1]) for _ in range(2))
    arguments = (module, *arguments)
    process = _CONTEXT.Process(
        target=_run, args=(arguments, dict(environment), str(folder or Path.cwd()), str(out), str(err))
    )
    process.start()
    return Running(process, out, err)


def _run(arguments: Sequence[str], environment: dict[str, str], folder: str, *outputs: str) -> None:
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    importlib.reload(failpoints)  # it reads the environment when it is imported
    sys.argv = list(arguments)
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves these out
