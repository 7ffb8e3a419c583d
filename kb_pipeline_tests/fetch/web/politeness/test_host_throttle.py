"""When one crawl's requests to one host start: gaps, permits, pauses and stops, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import pairwise

import pytest

from kb_pipeline.fetch.web.politeness.host_throttle import (
    MAX_WAIT_S,
    AskedToWait,
    CrawlStopped,
    HostThrottle,
    HostThrottles,
)
from kb_pipeline.host_scheduler import SLOT_S, LocalHostScheduler, Permit, Report
from kb_pipeline_tests.fetch.web.virtual_time import passed_s, run_in_virtual_time

HOST = "site.example"


class Scheduler:
    """The real scheduler in memory, behind the message pipe that a crawl asks it through."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self._local, self._takes_s = LocalHostScheduler(), takes_s
        self.messages: list[dict[str, Report]] = []

    async def __call__(self, reports: Mapping[str, Report]) -> Mapping[str, Permit]:
        self.messages.append(dict(reports))
        await asyncio.sleep(self._takes_s)
        return self._local.exchange(reports)


def throttles(delay_s: float = 0.0, concurrency: int = 16, scheduler: Scheduler | None = None) -> HostThrottles:
    return HostThrottles(delay_s, concurrency, scheduler or Scheduler())


async def request(throttle: HostThrottle, takes_s: float = 0.05, *, busy: bool = False) -> float:
    """Send one request; return when it started."""
    await throttle.acquire()
    sent_at = asyncio.get_running_loop().time()
    started = passed_s()
    await asyncio.sleep(takes_s)
    throttle.release(sent_at, asyncio.get_running_loop().time(), busy=busy)
    return started


async def robots(throttle: HostThrottle, crawl_delay_s: float = 0.0) -> None:
    """Fetch robots.txt, as the first request to every host does: before it nothing is unlimited."""
    await throttle.acquire()
    sent_at = asyncio.get_running_loop().time()
    throttle.set_crawl_delay(crawl_delay_s)
    throttle.release(sent_at, sent_at)


def gaps(starts: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(sorted(starts))]


@pytest.mark.parametrize(
    ("delay_s", "crawl_delay_s", "takes_s"),
    [(0.5, 0.0, 0.05), (0.5, 2.0, 0.05), (2.0, 0.5, 0.05), (0.5, 0.0, 3.0), (0.0, 1.0, 0.05)],
    ids=["delay", "longer Crawl-delay", "shorter Crawl-delay", "slow responses", "Crawl-delay alone"],
)
def test_a_request_starts_the_longer_delay_after_the_last_response(
    delay_s: float, crawl_delay_s: float, takes_s: float
) -> None:
    async def crawl() -> list[float]:
        throttle = throttles(delay_s).of(HOST)
        await robots(throttle, crawl_delay_s)
        return await asyncio.gather(*(request(throttle, takes_s) for _ in range(5)))

    starts = run_in_virtual_time(crawl())
    longest = max(delay_s, crawl_delay_s)
    assert min(gaps(starts)) >= longest + takes_s - 0.001
    if takes_s < 1:  # a host slower than usual is slowed down on purpose
        assert max(gaps(starts)) < longest + takes_s + 0.1


def test_without_a_delay_a_new_host_gets_few_requests_at_once_and_more_with_each_response() -> None:
    async def crawl() -> list[float]:
        throttle = throttles().of(HOST)
        await robots(throttle)
        return sorted(await asyncio.gather(*(request(throttle, takes_s=0.1) for _ in range(20))))

    starts = run_in_virtual_time(crawl())
    first = [start for start in starts if start < starts[0] + 0.05]
    assert 4 <= len(first) <= 5
    second = [start for start in starts if starts[0] + 0.05 < start < starts[0] + 0.15]
    assert len(second) == 2 * len(first)


def test_no_more_than_the_concurrency_are_in_flight() -> None:
    async def crawl() -> int:
        throttle, most, now = throttles(concurrency=3).of(HOST), 0, 0

        async def one() -> None:
            nonlocal most, now
            await throttle.acquire()
            now += 1
            most = max(most, now)
            sent_at = asyncio.get_running_loop().time()
            await asyncio.sleep(0.05)
            now -= 1
            throttle.release(sent_at, asyncio.get_running_loop().time())

        await robots(throttle)
        await asyncio.gather(*(one() for _ in range(30)))
        return most

    assert run_in_virtual_time(crawl()) == 3


def test_retry_after_holds_every_request_to_the_host() -> None:
    async def crawl() -> tuple[float, list[float]]:
        throttle = throttles().of(HOST)
        await robots(throttle)
        await request(throttle)
        throttle.pause(30)
        paused_at = passed_s()
        return paused_at, await asyncio.gather(*(request(throttle) for _ in range(5)))

    paused_at, starts = run_in_virtual_time(crawl())
    assert 30 <= min(starts) - paused_at < 31


def test_a_pause_longer_than_a_refresh_waits_is_an_error_at_once() -> None:
    async def crawl() -> float:
        throttle = throttles().of(HOST)
        await robots(throttle)
        throttle.pause(MAX_WAIT_S + 60)
        with pytest.raises(AskedToWait, match="for 360 s"):
            await throttle.acquire()
        return passed_s()

    assert run_in_virtual_time(crawl()) < 5


def test_a_busy_host_is_slowed_down_ever_more_and_recovers() -> None:
    async def crawl() -> tuple[list[float], list[float]]:
        throttle = throttles().of(HOST)
        await robots(throttle)
        busy = [await request(throttle, busy=True) for _ in range(5)]
        good = [await request(throttle) for _ in range(12)]
        return gaps(busy), gaps(good)

    busy, good = run_in_virtual_time(crawl())
    assert busy == sorted(busy)
    assert busy[-1] > 2
    assert good[0] > 2
    assert good[-1] < 0.2


def test_other_hosts_do_not_wait() -> None:
    async def crawl() -> float:
        hosts = throttles(delay_s=100)
        slow, other = hosts.of(HOST), hosts.of("other.example")
        await robots(slow)
        waiting = asyncio.create_task(request(slow))
        await robots(other)
        at = passed_s()
        hosts.stop()
        await asyncio.gather(waiting, return_exceptions=True)
        return at

    assert run_in_virtual_time(crawl()) < 1


def test_hosts_that_report_at_one_moment_share_a_message() -> None:
    scheduler = Scheduler(takes_s=0.2)

    async def crawl() -> None:
        hosts = throttles(scheduler=scheduler)
        await asyncio.gather(*(robots(hosts.of(f"{name}.example")) for name in "abcdef"))

    run_in_virtual_time(crawl())
    assert len(scheduler.messages[0]) == 6


def test_stopping_ends_every_wait_and_every_later_request() -> None:
    async def crawl() -> list[object]:
        hosts = throttles(delay_s=1000)
        throttle = hosts.of(HOST)
        await robots(throttle)
        waiting = [asyncio.create_task(throttle.acquire()) for _ in range(3)]
        await asyncio.sleep(1)
        hosts.stop()
        ended = await asyncio.gather(
            *waiting, throttle.acquire(), hosts.of("new.example").acquire(), return_exceptions=True
        )
        assert passed_s() < 5
        return list(ended)

    assert [type(error) for error in run_in_virtual_time(crawl())] == [CrawlStopped] * 5


def test_an_error_of_the_scheduler_reaches_waiting_requests() -> None:
    async def broken(_: Mapping[str, Report]) -> Mapping[str, Permit]:
        raise OSError("the pipe is gone")

    async def crawl() -> None:
        await HostThrottles(0.0, 16, broken).of(HOST).acquire()

    with pytest.raises(OSError, match="the pipe is gone"):
        run_in_virtual_time(crawl())


def test_a_request_in_flight_keeps_its_slot_alive() -> None:
    scheduler = Scheduler()

    async def crawl() -> None:
        throttle = throttles(delay_s=1, scheduler=scheduler).of(HOST)
        await robots(throttle)
        await request(throttle, takes_s=3 * SLOT_S)

    run_in_virtual_time(crawl())
    in_flight = [message[HOST] for message in scheduler.messages if message[HOST].in_flight]
    assert len(in_flight) >= 3 * SLOT_S / (SLOT_S / 4) - 2


def test_what_the_last_response_said_is_reported_at_the_end() -> None:
    scheduler = Scheduler()

    async def crawl() -> None:
        hosts = throttles(scheduler=scheduler)
        await robots(hosts.of(HOST))
        await request(hosts.of(HOST))
        await hosts.flush()
        said = len(scheduler.messages)
        await hosts.flush()
        assert len(scheduler.messages) == said, "nothing new, nothing to say"

    run_in_virtual_time(crawl())
    assert sum(message[HOST].responses for message in scheduler.messages) == 2


def test_the_figures_name_the_busiest_hosts_and_how_long_requests_waited() -> None:
    async def crawl() -> HostThrottles:
        hosts = throttles(delay_s=2)
        await robots(hosts.of(HOST))
        for _ in range(3):
            await request(hosts.of(HOST))
        for number in range(12):
            await robots(hosts.of(f"{number}.example"))
        return hosts

    figures = run_in_virtual_time(crawl()).figures()
    assert (len(figures), figures[0].host, figures[0].requests) == (10, HOST, 4)
    assert 5.5 < figures[0].waited_s < 7
