"""Keeps the time between two requests to one host, as the server sees it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from time import monotonic

DOWN_AFTER = 10
_SLOW_START = 4
"""Requests at once to a host that has not answered yet; each answer makes room for one more. Many servers queue five
connections and let the others wait a second."""


class Stopped(Exception):
    """The crawl was stopped before this turn came."""


class HostClock:
    """Turns at one host: `concurrency` at a time without a delay, one at a time with one."""

    def __init__(self, delay_s: float, concurrency: int) -> None:
        self.delay_s = delay_s
        self.failures_in_a_row = 0
        self._concurrency = concurrency
        self._in_flight = 0
        self._answered = 0
        self._ready_at = 0.0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._stopped = False

    @property
    def is_down(self) -> bool:
        """Whether so many requests in a row found nobody that retrying each is pointless."""
        return self.failures_in_a_row >= DOWN_AFTER

    async def begin(self) -> None:
        """Wait for a turn; raises Stopped when the crawl stops first."""
        while not self._stopped:
            wait_s = self._wait_s()
            if wait_s is not None and wait_s <= 0:
                break
            await self._sleep(wait_s)
        if self._stopped:
            raise Stopped
        self._in_flight += 1
        self._ready_at = max(self._ready_at, monotonic() + self.delay_s)

    def end(self, heard_at: float) -> None:
        """Give the turn back; `heard_at` is when the server began to answer, so after it got the request.

        Counting from there and not from when the request was sent keeps the gap between two arrivals at the
        server no shorter than the delay, however long connecting took.
        """
        self._in_flight -= 1
        self._answered += 1
        if self.delay_s:
            self._ready_at = max(self._ready_at, heard_at + self.delay_s)
        self._wake()
        self._wake()  # its own turn, and the one that its answer has made room for

    def not_before(self, seconds: float) -> None:
        """Leave the host alone for so long (Retry-After)."""
        self._ready_at = max(self._ready_at, monotonic() + seconds)

    def stop(self) -> None:
        """End every wait with Stopped."""
        self._stopped = True
        while self._waiters:
            self._wake()

    def _wait_s(self) -> float | None:
        if self._in_flight >= (1 if self.delay_s else min(self._concurrency, _SLOW_START + self._answered)):
            return None
        return self._ready_at - monotonic()

    async def _sleep(self, seconds: float | None) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(waiter, seconds)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class HostClocks:
    """The clock of every host of a crawl."""

    def __init__(self, delay_s: float, concurrency: int) -> None:
        self._delay_s, self._concurrency = delay_s, concurrency
        self._clocks: dict[str, HostClock] = {}

    def of(self, host: str) -> HostClock:
        """The clock of a host name; its ports share it, since they share the machine."""
        if host not in self._clocks:
            self._clocks[host] = HostClock(self._delay_s, self._concurrency)
        return self._clocks[host]

    def stop(self) -> None:
        """End every wait at every host."""
        for clock in self._clocks.values():
            clock.stop()
