"""An event loop whose clock moves only when everybody waits: politeness of hours is tested in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from kb_pipeline import host_scheduler
from kb_pipeline.fetch.web.http import client
from kb_pipeline.fetch.web.politeness import host_throttle

_Result = TypeVar("_Result")
_BEGIN_S = 1000.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """Instead of sleeping until the next timer it moves its clock there."""

    def __init__(self) -> None:
        self.now = _BEGIN_S
        super().__init__(_Skipping(self))

    def time(self) -> float:
        return self.now


class _Skipping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and no timer will wake anybody")
        self._loop.now += max(timeout, 0.0)
        return super().select(0)


def run_in_virtual_time(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine to its end; whatever of the crawler reads the monotonic clock reads the loop's."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner, pytest.MonkeyPatch.context() as patched:
        clock = runner.get_loop().time
        for module in (host_throttle, client, host_scheduler):
            patched.setattr(module, "monotonic", clock)
        return runner.run(work)


def passed_s() -> float:
    """Seconds since the loop began."""
    return asyncio.get_running_loop().time() - _BEGIN_S
