"""Defers Ctrl-C while a short piece of work must not be left half-done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Deferral:
    """Stands in for the process's handlers of SIGINT and SIGTERM; used by the main thread only."""

    def __init__(self) -> None:
        self._depth = 0
        self._handlers: dict[signal.Signals, Callable[[int, FrameType | None], object]] = {}
        self._received: list[int] = []

    def begin(self) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        for signum in _SIGNALS:
            handler = signal.getsignal(signum)
            if callable(handler) and not isinstance(handler, signal.Handlers):
                self._handlers[signum] = handler
                signal.signal(signum, self._note)

    def end(self) -> None:
        self._depth -= 1
        if self._depth:
            return
        self._restore()
        received, self._received = self._received, []
        for signum in received:
            signal.raise_signal(signum)

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        if self._received:  # the second Ctrl-C: whoever presses it again does not want to wait
            self._received.clear()
            self._restore()
            signal.raise_signal(signum)
            return
        self._received.append(signum)

    def _restore(self) -> None:
        while self._handlers:
            signum, handler = self._handlers.popitem()
            signal.signal(signum, handler)


_deferral = _Deferral()


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Run the block to its end before a SIGINT or SIGTERM that arrives meanwhile is handled; a second one is at once.

    Blocks may be nested. In threads other than the main one, which Python never interrupts, this is a no-op. A signal
    whose handler is not Python's own business (the default, ignored) is left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _deferral.begin()
    try:
        yield
    finally:
        _deferral.end()
