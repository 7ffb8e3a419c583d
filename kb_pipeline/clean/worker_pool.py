"""Cleans documents in worker processes, where none can exceed its limits or affect other documents."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import CancelledError, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import popen_spawn_posix
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from kb_pipeline.clean.html.document import read_html, warm_up
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.model import Document, RawDocument, Rejected
from kb_pipeline.processes import die_with_parent

if TYPE_CHECKING:
    from pebble import ProcessFuture, ProcessPool

_QUEUED_PER_WORKER = 4
_MAX_QUEUED_BYTES = 64 * 2**20
_MB = 2**20
_ATTEMPTS = 3

Result = Document | Rejected


def clean_documents(raw: Iterable[RawDocument], rules: CleaningRules) -> Iterator[Result]:
    """Yield one Document or one Rejected for every raw document, in input order.

    At most a few documents a worker are in memory at a time; closing the generator stops the workers.
    """
    items = iter(raw)
    first = list(islice(items, rules.workers))
    workers = _Workers(rules, max(1, len(first)))
    queue: deque[_Task] = deque()
    try:
        for item in chain(first, items):
            while queue and workers.is_busy(queue, item):
                yield workers.result(queue.popleft())
            queue.append(workers.task(item))
        while queue:
            yield workers.result(queue.popleft())
    finally:
        workers.stop()


@dataclass(slots=True)
class _Task:
    """A raw document and the future of its result."""

    raw: RawDocument
    future: ProcessFuture[Result] | None = None


class _Workers:
    """The worker processes: started with the first document, and again if the pool itself breaks."""

    def __init__(self, rules: CleaningRules, size: int) -> None:
        self.rules, self.size = rules, size
        self._pool: ProcessPool | None = None

    def is_busy(self, queue: Collection[_Task], item: RawDocument) -> bool:
        """Return whether `item` has to wait until another document is done."""
        held = sum(len(task.raw.body) for task in queue) + len(item.body)
        return len(queue) >= _QUEUED_PER_WORKER * self.size or held > _MAX_QUEUED_BYTES

    def task(self, item: RawDocument) -> _Task:
        """Schedule a document; a pool that just broke is replaced when the result is awaited."""
        return _Task(item, self._schedule(item))

    def result(self, task: _Task) -> Result:
        """Return the result of a document; one whose pool broke, which is not its fault, goes to another pool."""
        from pebble import ProcessExpired

        for _ in range(_ATTEMPTS):
            future = task.future or self._schedule(task.raw)
            try:
                if future is not None:
                    return future.result()
            except TimeoutError:
                return _failed(task.raw, "timeout", f"not done after {self.rules.wall_s:g} s by the clock")
            except ProcessExpired as error:
                if error.exitcode == -signal.SIGPROF:
                    message = f"took more than {self.rules.timeout_s:g} s on the processor"
                    return _failed(task.raw, "timeout", message)
                return _failed(task.raw, "crashed", f"its worker process ended with status {error.exitcode}")
            except (BrokenProcessPool, CancelledError):
                pass
            task.future = None
            self.stop()
        return _failed(task.raw, "crashed", f"the worker processes were lost {_ATTEMPTS} times")

    def stop(self) -> None:
        """Stop the workers at once, without waiting for their documents."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()  # type: ignore[no-untyped-call]
            pool.join()

    def _schedule(self, item: RawDocument) -> ProcessFuture[Result] | None:
        self._pool = self._pool or self._started()
        try:
            return self._pool.schedule(_clean_one, args=(item, self.rules), timeout=self.rules.wall_s)
        except RuntimeError:  # the pool is broken
            return None

    def _started(self) -> ProcessPool:
        from pebble import ProcessPool

        return ProcessPool(
            max_workers=self.size,
            max_tasks=self.rules.max_tasks,
            initializer=_prepare_worker,
            initargs=(os.getpid(), self.rules.memory_mb),
            context=_MainlessContext(),
        )


class _MainlessProcess(SpawnProcess):
    """A process that starts from a clean interpreter and does not run the parent's main module again.

    Plain `spawn` imports that module in every child: slow for a large program, and endless for a script without the
    `if __name__ == "__main__"` guard.
    """

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> popen_spawn_posix.Popen:  # noqa: N802 - multiprocessing's name
        with _MAIN_HIDDEN:
            main = sys.modules["__main__"]
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                return popen_spawn_posix.Popen(process_obj)
            finally:
                sys.modules["__main__"] = main


class _MainlessContext(SpawnContext):
    Process = _MainlessProcess


_MAIN_HIDDEN = threading.Lock()


def _prepare_worker(parent: int, memory_mb: int) -> None:
    """Make a worker end with its parent, load what every document needs, then limit its memory."""
    die_with_parent(signal.SIGKILL, parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops the workers
    warm_up()
    limit = _address_space() + memory_mb * _MB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would contain tenants' data


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _clean_one(item: RawDocument, rules: CleaningRules) -> Result:
    # The kernel counts the time and ends the process, also where C code never comes back to Python.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, rules.timeout_s)
    try:
        return _clean_within_limits(item, rules)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _clean_within_limits(item: RawDocument, rules: CleaningRules) -> Result:
    try:
        return read_html(item, rules)
    except MemoryError:
        pass
    except RecursionError:
        return Rejected(item.source, item.key, "too_deep", "nested deeper than can be read", item.sha256)
    except Exception as error:  # noqa: BLE001 - no error of one document, however surprising, must not end the refresh
        return _failed(item, "error", f"{type(error).__name__}: {error}"[:500])
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # otherwise the next document would start with a full address space
    return _failed(item, "memory", f"needed more than {rules.memory_mb} MB")


def _failed(item: RawDocument, reason: str, message: str) -> Rejected:
    return Rejected(item.source, item.key, reason, message, item.sha256, failed=True)
