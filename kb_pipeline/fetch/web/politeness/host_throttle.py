"""Keeps a crawl's requests to each host in their turns, and says when it is pointless to go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from time import monotonic

from kb_pipeline.fetch.web.rules import HostFigures
from kb_pipeline.host_scheduler import HOLDING_S, Permit, Report

DOWN_AFTER = 10
LONGEST_WAIT_S = 300.0
"""A host that asks to be left alone for longer is not waited for within a refresh."""
_SLOW_START = 4
"""Requests at once to a host that has not answered yet; each answer makes room for one more. Many servers queue five
connections and let the others wait a second."""
_RENEW_BEFORE_S = 0.3
_HOSTS_TOLD = 10

Exchange = Callable[[Mapping[str, Report]], Awaitable[Mapping[str, Permit]]]
"""Reports on hosts against grants, as turns.HostScheduler does it, from wherever that is."""


class Stopped(Exception):
    """The crawl was stopped before this turn came."""


class AskedToWait(Exception):
    """The host asks to be left alone for longer than a refresh waits."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the host asks to be left alone for {seconds:.0f} s")


class HostThrottle:
    """The turns of one crawl at one host: `concurrency` requests at a time where they are free, else one."""

    def __init__(self, host: str, delay_s: float, concurrency: int, desk: ReportBatcher) -> None:
        self.delay_s = delay_s
        self.failures_in_a_row = 0
        self.requests = 0
        self.waited_s = 0.0
        self.host, self._concurrency, self._desk = host, concurrency, desk
        self._in_flight = self._answered = 0
        self._in_turn = False
        """Whether what is in flight is the one request of a turn."""
        self._grant, self._granted_at = Permit(), 0.0
        self._closed_until = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._wants = self._renews = False
        """What the last report said, and whether the next one should although nobody waits yet."""
        self._poke = asyncio.Event()
        self._error: Exception | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._news, self._heard_at = Report(delay_s), 0.0
        self._stopped = False
        self._holding: asyncio.TimerHandle | None = None

    @property
    def is_down(self) -> bool:
        """Whether so many requests in a row found nobody that retrying each is pointless."""
        return self.failures_in_a_row >= DOWN_AFTER

    async def begin(self) -> None:
        """Wait for a turn; raises Stopped when the crawl stops first, AskedToWait when it would take too long."""
        came = monotonic()
        while not self._stopped and not self._may_begin():
            if (left_s := self._closed_until - monotonic()) > LONGEST_WAIT_S:
                raise AskedToWait(left_s)
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            if not self._in_turn and self._ends_in() <= 0 and not (self._asking and self._wants):
                self._ask()
            await waiter
        if self._error is not None:
            raise self._error
        if self._stopped:
            raise Stopped
        if self._grant.turn_s:
            self._grant, self._in_turn = Permit(), True
            self._holding = asyncio.get_running_loop().call_later(HOLDING_S, self._ask)
        elif self._ends_in() < _RENEW_BEFORE_S and not self._renews:
            self._renews = True
            self._ask()
        self._in_flight += 1
        self.requests += 1
        self.waited_s += monotonic() - came

    def end(self, began_at: float, heard_at: float | None, *, busy: bool = False) -> None:
        """Give the turn back.

        Args:
            began_at: when the request was sent.
            heard_at: when the server began to answer, so after it got the request; None when it never did. Counting
                from there keeps two arrivals at the server as far apart as they must be, however long connecting took.
            busy: whether the answer was 429 or 503.
        """
        self._in_flight -= 1
        self._answered += 1
        self._heard_at = heard_at or monotonic()
        if heard_at is not None:
            self._news.answers += 1
            self._news.busy += busy
            self._news.latency_s += (heard_at - began_at - self._news.latency_s) / self._news.answers
        if self._in_turn and self._holding is not None:
            self._in_turn = False
            self._holding.cancel()
            self._ask()  # others wait to hear that the turn is over
            return
        if busy:
            self._grant = Permit()
            self._ask()
        self._wake(2)  # its own turn, and the one that its answer has made room for

    def not_before(self, seconds: float) -> None:
        """Leave the host alone for so long (Retry-After), whoever else asks it too."""
        if seconds:
            self._news.retry_after_s = max(self._news.retry_after_s, seconds)
            self._grant = Permit()
            self._ask()

    def keep_crawl_delay(self, seconds: float) -> None:
        """Keep what robots.txt asks for, 0 for nothing."""
        self.delay_s = max(self.delay_s, seconds)
        self._news.crawl_delay_s = seconds
        self._grant = Permit()

    def stop(self) -> None:
        """End every wait with Stopped."""
        self._stopped = True
        self._poke.set()
        self._wake(len(self._waiters))

    @property
    def has_news(self) -> bool:
        """Whether something happened since the last report."""
        return self._heard_at > 0 or self._news.retry_after_s > 0

    def report(self) -> Report:
        """What happened since the last report, and what is wanted."""
        news, self._news = self._news, Report(self.delay_s)
        news.delay_s = self.delay_s
        news.wants = self._wants = bool(self._waiters or self._renews) and not self._stopped
        news.holds, self._renews = self._in_turn, False
        if self._heard_at:
            news.heard_ago_s, self._heard_at = monotonic() - self._heard_at, 0.0
        return news

    def _may_begin(self) -> bool:
        if self._ends_in() <= 0 or monotonic() < self._granted_at + self._grant.wait_s:
            return False
        if self._grant.free_s:
            return self._in_flight < min(self._concurrency, _SLOW_START + self._answered)
        return self._in_flight == 0

    def _ends_in(self) -> float:
        """Seconds until what is granted may no longer be begun; below 0 when nothing is."""
        grant = self._grant
        begins = grant.turn_s + grant.free_s
        return self._granted_at + grant.wait_s + begins - monotonic() if begins else -1.0

    def _ask(self) -> None:
        """Report, now or as soon as the report under way is answered."""
        self._poke.set()
        if self._asking is None and not self._stopped:
            self._asking = asyncio.create_task(self._ask_while_needed())

    async def _ask_while_needed(self) -> None:
        try:
            while not self._stopped:
                self._poke.clear()
                sent_at = monotonic()
                grant = await self._desk.exchange(self.host, self)
                # A free moment is counted from before the question, so that it ends no later than its giver thinks.
                self._grant, self._granted_at = grant, sent_at if grant.free_s else monotonic()
                self._closed_until = monotonic() + grant.asked_to_wait_s
                if grant.free_s or grant.asked_to_wait_s > LONGEST_WAIT_S:
                    self._wake(len(self._waiters))
                if self._waiters or self._in_turn:
                    await self._rest(self._granted_at + grant.wait_s)
                    if grant.turn_s and self._waiters and not self._poke.is_set():
                        self._wake(1)
                        return
                elif not grant.turn_s and not self._poke.is_set():  # a turn that nobody wants any more is given back
                    return
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits for a turn
            self._error = error
            self.stop()
        finally:
            self._asking = None

    async def _rest(self, until: float) -> None:
        while not self._poke.is_set() and (left_s := until - monotonic()) > 0:
            # uvloop counts in milliseconds and may come one too early.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._poke.wait(), left_s + 0.001)

    def _wake(self, waiters: int) -> None:
        while self._waiters and waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                waiters -= 1


class ReportBatcher:
    """Gathers what the clocks report in one moment and exchanges it at once, one message after the other."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._asked: dict[str, tuple[HostThrottle, asyncio.Future[Permit]]] = {}
        self._serving: asyncio.Task[None] | None = None

    async def exchange(self, host: str, clock: HostThrottle) -> Permit:
        """Report on a host; what the crawl may do there next."""
        if host not in self._asked:
            self._asked[host] = clock, asyncio.get_running_loop().create_future()
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve())
        return await self._asked[host][1]

    async def _serve(self) -> None:
        try:
            while self._asked:
                await asyncio.sleep(0)  # whoever else has something to say in this moment joins
                asked, self._asked = self._asked, {}
                await self._answer(asked)
        finally:
            self._serving = None

    async def _answer(self, asked: Mapping[str, tuple[HostThrottle, asyncio.Future[Permit]]]) -> None:
        try:
            grants = await self._exchange({host: clock.report() for host, (clock, _) in asked.items()})
            for host, (_, answer) in asked.items():
                answer.set_result(grants[host])
        except Exception as error:  # noqa: BLE001 - handed to those who asked
            for _, answer in asked.values():
                if not answer.done():
                    answer.set_exception(error)


class HostClocks:
    """The clock of every host of a crawl."""

    def __init__(self, delay_s: float, concurrency: int, exchange: Exchange) -> None:
        self._delay_s, self._concurrency = delay_s, concurrency
        self._exchange, self._desk = exchange, ReportBatcher(exchange)
        self._clocks: dict[str, HostThrottle] = {}
        self._stopped = False

    def of(self, host: str) -> HostThrottle:
        """The clock of a host name; its ports share it, since they share the machine."""
        if host not in self._clocks:
            clock = self._clocks[host] = HostThrottle(host, self._delay_s, self._concurrency, self._desk)
            if self._stopped:
                clock.stop()
        return self._clocks[host]

    def __iter__(self) -> Iterator[HostThrottle]:
        """Every clock there is."""
        return iter(self._clocks.values())

    def stop(self) -> None:
        """End every wait at every host."""
        self._stopped = True
        for clock in self._clocks.values():
            clock.stop()

    async def settle(self) -> None:
        """Report what has not been reported: a Retry-After of the last answer holds for the next crawl too."""
        await asyncio.gather(*(self._desk.exchange(clock.host, clock) for clock in self if clock.has_news))

    def figures(self) -> tuple[HostFigures, ...]:
        """What the hosts that were asked most cost."""
        busiest = sorted(self, key=lambda clock: -clock.requests)[:_HOSTS_TOLD]
        return tuple(HostFigures(clock.host, clock.requests, round(clock.waited_s, 1)) for clock in busiest)
