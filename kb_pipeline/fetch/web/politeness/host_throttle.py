"""Throttles a crawl's requests to each host by the scheduler's permits, and says when a host is down."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from time import monotonic

from kb_pipeline.fetch.web.rules import HostFigures
from kb_pipeline.host_scheduler import KEEPALIVE_S, Permit, Report

MAX_FAILURES = 10
"""Consecutive requests without a response after which a host counts as down."""
MAX_WAIT_S = 300.0
"""A refresh does not wait for a host that asks to be left alone for longer than this."""
_INITIAL_WINDOW = 4
"""Concurrent requests to a host that has not responded yet; each response makes room for one more. Many servers queue
five connections and let the others wait a second."""
_RENEW_BEFORE_S = 0.3
_MAX_HOST_FIGURES = 10

Exchange = Callable[[Mapping[str, Report]], Awaitable[Mapping[str, Permit]]]
"""Sends reports on hosts and returns their permits; host_scheduler.HostScheduler.exchange, wherever that runs."""


class CrawlStopped(Exception):
    """The crawl was stopped before the request could start."""


class AskedToWait(Exception):
    """The host asks to be left alone for longer than a refresh waits."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the host asks to be left alone for {seconds:.0f} s")


class HostThrottle:
    """Starts one crawl's requests to one host: up to `concurrency` at once while the permit is unlimited, else one."""

    def __init__(self, host: str, delay_s: float, concurrency: int, batcher: ReportBatcher) -> None:
        self.delay_s = delay_s
        self.consecutive_failures = 0
        self.requests = 0
        self.waited_s = 0.0
        self.host, self._concurrency, self._batcher = host, concurrency, batcher
        self._in_flight = self._responses = 0
        self._holds_slot = False
        """Whether the request in flight is the one of a slot."""
        self._permit, self._permitted_at = Permit(), 0.0
        self._closed_until = 0.0
        self._reporting: asyncio.Task[None] | None = None
        self._is_waiting_reported = False
        """Whether the last report said that a request waits."""
        self._renews = False
        """Whether the next report should say so although none waits yet."""
        self._report_now = asyncio.Event()
        self._error: Exception | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._next_report, self._responded_at = Report(delay_s), 0.0
        self._stopped = False
        self._keepalive: asyncio.TimerHandle | None = None

    @property
    def is_down(self) -> bool:
        """Whether so many consecutive requests got no response that retrying each is pointless."""
        return self.consecutive_failures >= MAX_FAILURES

    async def acquire(self) -> None:
        """Wait until a request may start.

        Raises:
            CrawlStopped: the crawl was stopped first.
            AskedToWait: the host asks for a longer pause than MAX_WAIT_S.
        """
        arrived_at = monotonic()
        while not self._stopped and not self._may_start():
            closed_s = self._closed_until - monotonic()
            if closed_s > MAX_WAIT_S:
                raise AskedToWait(closed_s)
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            is_permit_coming = self._reporting is not None and self._is_waiting_reported
            if not self._holds_slot and self._permit_left_s() <= 0 and not is_permit_coming:
                self._request_permit()
            await waiter
        if self._error is not None:
            raise self._error
        if self._stopped:
            raise CrawlStopped
        if self._permit.slot_s:
            self._permit, self._holds_slot = Permit(), True
            self._keepalive = asyncio.get_running_loop().call_later(KEEPALIVE_S, self._request_permit)
        elif self._permit_left_s() < _RENEW_BEFORE_S and not self._renews:
            self._renews = True
            self._request_permit()
        self._in_flight += 1
        self.requests += 1
        self.waited_s += monotonic() - arrived_at

    def release(self, sent_at: float, responded_at: float | None, *, busy: bool = False) -> None:
        """End a request that `acquire` let start.

        Args:
            sent_at: when the request was sent.
            responded_at: when the server began to respond, so after it received the request; None when it never did.
                Counting from there keeps two arrivals at the server as far apart as they must be, however long
                connecting took.
            busy: whether the status was 429 or 503.
        """
        self._in_flight -= 1
        self._responses += 1
        self._responded_at = responded_at or monotonic()
        if responded_at is not None:
            report = self._next_report
            report.responses += 1
            report.busy += busy
            report.latency_s += (responded_at - sent_at - report.latency_s) / report.responses
        if self._holds_slot and self._keepalive is not None:
            self._holds_slot = False
            self._keepalive.cancel()
            self._request_permit()  # other crawls wait for the end of this slot
            return
        if busy:
            self._permit = Permit()
            self._request_permit()
        self._wake(2)  # the place of this request, and the one that its response has added

    def pause(self, seconds: float) -> None:
        """Leave the host alone for so long (Retry-After), in every crawl."""
        if seconds:
            self._next_report.retry_after_s = max(self._next_report.retry_after_s, seconds)
            self._permit = Permit()
            self._request_permit()

    def set_crawl_delay(self, seconds: float) -> None:
        """Keep the Crawl-delay of robots.txt, 0 when it has none."""
        self.delay_s = max(self.delay_s, seconds)
        self._next_report.crawl_delay_s = seconds
        self._permit = Permit()

    def stop(self) -> None:
        """End every wait with CrawlStopped."""
        self._stopped = True
        self._report_now.set()
        self._wake(len(self._waiters))

    @property
    def has_unreported(self) -> bool:
        """Whether a response or a Retry-After came since the last report."""
        return self._responded_at > 0 or self._next_report.retry_after_s > 0

    def take_report(self) -> Report:
        """Return what happened since the last report and whether a request waits, and begin the next report."""
        report, self._next_report = self._next_report, Report(self.delay_s)
        self._is_waiting_reported = bool(self._waiters or self._renews) and not self._stopped
        report.delay_s = self.delay_s
        report.waiting = self._is_waiting_reported
        report.in_flight = self._holds_slot
        self._renews = False
        if self._responded_at:
            report.responded_ago_s, self._responded_at = monotonic() - self._responded_at, 0.0
        return report

    def _may_start(self) -> bool:
        if self._permit_left_s() <= 0 or monotonic() < self._permitted_at + self._permit.wait_s:
            return False
        if self._permit.unlimited_s:
            return self._in_flight < min(self._concurrency, _INITIAL_WINDOW + self._responses)
        return self._in_flight == 0

    def _permit_left_s(self) -> float:
        """Return the seconds within which a request may still start; below 0 when the permit allows none."""
        permit = self._permit
        usable_s = permit.slot_s + permit.unlimited_s
        return self._permitted_at + permit.wait_s + usable_s - monotonic() if usable_s else -1.0

    def _request_permit(self) -> None:
        """Send a report now, or as soon as the exchange under way has ended."""
        self._report_now.set()
        if self._reporting is None and not self._stopped:
            self._reporting = asyncio.create_task(self._report_while_needed())

    async def _report_while_needed(self) -> None:
        try:
            while not self._stopped:
                self._report_now.clear()
                sent_at = monotonic()
                permit = await self._batcher.exchange(self.host, self)
                # An unlimited permit counts from before the report, so that it ends no later than the scheduler thinks.
                self._permit, self._permitted_at = permit, sent_at if permit.unlimited_s else monotonic()
                self._closed_until = monotonic() + permit.asked_to_wait_s
                if permit.unlimited_s or permit.asked_to_wait_s > MAX_WAIT_S:
                    self._wake(len(self._waiters))
                if self._waiters or self._holds_slot:
                    await self._sleep_until(self._permitted_at + permit.wait_s)
                    if permit.slot_s and self._waiters and not self._report_now.is_set():
                        self._wake(1)
                        return
                elif not permit.slot_s and not self._report_now.is_set():  # an unused slot is reported, to free it
                    return
        except Exception as error:  # noqa: BLE001 - raised again in `acquire`
            self._error = error
            self.stop()
        finally:
            self._reporting = None

    async def _sleep_until(self, moment: float) -> None:
        """Sleep until a moment or until there is something to report."""
        while not self._report_now.is_set() and (left_s := moment - monotonic()) > 0:
            # uvloop counts in milliseconds and may come one too early.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._report_now.wait(), left_s + 0.001)

    def _wake(self, waiters: int) -> None:
        while self._waiters and waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                waiters -= 1


class ReportBatcher:
    """Sends the reports that throttles make at one moment as one message, one message after the other."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._pending: dict[str, tuple[HostThrottle, asyncio.Future[Permit]]] = {}
        self._sending: asyncio.Task[None] | None = None

    async def exchange(self, host: str, throttle: HostThrottle) -> Permit:
        """Report on a host and return what the crawl may do there next."""
        if host not in self._pending:
            self._pending[host] = throttle, asyncio.get_running_loop().create_future()
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        return await self._pending[host][1]

    async def _send_all(self) -> None:
        try:
            while self._pending:
                await asyncio.sleep(0)  # lets other throttles that report at this moment join
                batch, self._pending = self._pending, {}
                await self._send(batch)
        finally:
            self._sending = None

    async def _send(self, batch: Mapping[str, tuple[HostThrottle, asyncio.Future[Permit]]]) -> None:
        try:
            permits = await self._exchange({host: throttle.take_report() for host, (throttle, _) in batch.items()})
            for host, (_, future) in batch.items():
                future.set_result(permits[host])
        except Exception as error:  # noqa: BLE001 - raised again in those who wait for a permit
            for _, future in batch.values():
                if not future.done():
                    future.set_exception(error)


class HostThrottles:
    """The throttle of every host of a crawl."""

    def __init__(self, delay_s: float, concurrency: int, exchange: Exchange) -> None:
        self._delay_s, self._concurrency = delay_s, concurrency
        self._batcher = ReportBatcher(exchange)
        self._throttles: dict[str, HostThrottle] = {}
        self._stopped = False

    def of(self, host: str) -> HostThrottle:
        """Return the throttle of a host name; its ports share it, since they share the machine."""
        if host not in self._throttles:
            throttle = self._throttles[host] = HostThrottle(host, self._delay_s, self._concurrency, self._batcher)
            if self._stopped:
                throttle.stop()
        return self._throttles[host]

    def __iter__(self) -> Iterator[HostThrottle]:
        """Iterate over the throttles of all hosts so far."""
        return iter(self._throttles.values())

    def stop(self) -> None:
        """End every wait at every host."""
        self._stopped = True
        for throttle in self._throttles.values():
            throttle.stop()

    async def flush(self) -> None:
        """Send what has not been reported: a Retry-After of the last response holds for the next crawl too."""
        unreported = [throttle for throttle in self if throttle.has_unreported]
        await asyncio.gather(*(self._batcher.exchange(throttle.host, throttle) for throttle in unreported))

    def figures(self) -> tuple[HostFigures, ...]:
        """Return the figures of the hosts with the most requests."""
        busiest = sorted(self, key=lambda throttle: -throttle.requests)[:_MAX_HOST_FIGURES]
        return tuple(HostFigures(host.host, host.requests, round(host.waited_s, 1)) for host in busiest)
