"""Which crawl may request from a host next: gaps, shares and slowdowns, in simulated time."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from itertools import count, pairwise
from typing import Any

import pytest

from kb_pipeline.host_scheduler import SLOT_S, UNLIMITED_S, LocalClient, LocalHost, Permit, Report, decide

GAP = 0.2


class Host:
    """One host and its clients."""

    def __init__(self, *clients: str) -> None:
        self.state = LocalHost()
        self.clients = {name: LocalClient(name, name.split("-")[0]) for name in clients}

    def ask(self, name: str, now: float, delay_s: float = 0.0, *, waiting: bool = True, **report: Any) -> Permit:
        me = self.clients[name]
        return decide(self.state, self.clients.values(), me, Report(delay_s, waiting=waiting, **report), now)

    def open(self, now: float = 100.0) -> None:
        """Report a robots.txt without a Crawl-delay."""
        name = next(iter(self.clients))
        self.ask(name, now, waiting=False, crawl_delay_s=0.0)


def arrivals(host: Host, delays: dict[str, float], requests: int, seed: int) -> list[tuple[float, str]]:
    """Return when requests reach the server, with slow connections, late processes and slow responses."""
    chance, order, arrived = random.Random(seed), count(), list[tuple[float, str]]()
    events = [(100 + chance.random(), next(order), name, "ask", 0.0) for name in host.clients]
    heapq.heapify(events)
    while len(arrived) < requests:
        now, _, name, what, responded_at = heapq.heappop(events)
        report: dict[str, Any] = {"responded_ago_s": now - responded_at, "responses": 1, "latency_s": 0.01}
        if what == "send":
            arrived.append((now + chance.expovariate(50), name))
            responded_at = arrived[-1][0] + chance.expovariate(100)
            heapq.heappush(
                events, (responded_at + chance.expovariate(500), next(order), name, "responded", responded_at)
            )
            continue
        permit = host.ask(name, now, delays[name], **(report if what == "responded" else {}))
        delay = chance.expovariate(500)
        then = (now + permit.wait_s + delay, next(order), name, "send" if permit.slot_s else "ask", 0.0)
        heapq.heappush(events, then)
    return arrived


@pytest.mark.parametrize("seed", range(5))
def test_no_gap_is_shorter_than_the_longest_configured_delay(seed: int) -> None:
    names = ("a-1", "a-2", "b-1", "c-1")
    log = arrivals(Host(*names), dict(zip(names, (GAP, GAP / 2, 0.0, GAP), strict=True)), 1000, seed)
    known = max(next(at for at, who in log if who == name) for name in names)
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(log) if earlier >= known]
    assert len(gaps) > 900
    assert min(gaps) >= GAP
    assert log[-1][0] - log[0][0] < 1000 * GAP * 1.5, "nor is much time wasted"


def test_tenants_share_a_host_equally_however_many_crawls_they_send() -> None:
    names = ("a-1", "a-2", "a-3", "b-1", "c-1")
    log = arrivals(Host(*names), dict.fromkeys(names, GAP), 900, seed=1)
    shares = Counter(name.split("-")[0] for _, name in log)
    assert all(abs(share - 300) <= 60 for share in shares.values())
    assert min(Counter(name for _, name in log).values()) > 50, "and no crawl of a tenant starves"


def test_without_a_delay_requests_are_unlimited_once_robots_txt_is_known() -> None:
    host = Host("a", "b")
    assert host.ask("a", 100).slot_s, "robots.txt may ask for a delay"
    assert not host.ask("b", 100).unlimited_s
    assert host.ask("a", 101, crawl_delay_s=0.0, responded_ago_s=0.0).unlimited_s == UNLIMITED_S
    assert host.ask("b", 101).unlimited_s == UNLIMITED_S


def test_a_crawl_with_a_delay_waits_until_unlimited_permits_expire() -> None:
    host = Host("a", "b")
    host.open()
    assert host.ask("a", 101).unlimited_s
    permit = host.ask("b", 101.2, GAP)
    assert permit.wait_s == pytest.approx(UNLIMITED_S - 0.2 + GAP)
    assert permit.slot_s
    assert not host.ask("a", 101.9).unlimited_s, "and is waited for from then on"


def test_a_crawl_delay_holds_for_every_run_of_the_next_day() -> None:
    host = Host("a", "b")
    host.ask("a", 100, waiting=False, crawl_delay_s=5.0, responded_ago_s=0.0)
    assert host.ask("b", 101).wait_s == pytest.approx(4.0)
    assert host.ask("b", 100 + 24 * 3600 + 1, waiting=True, responded_ago_s=0.0).slot_s


def test_retry_after_closes_a_host_for_everybody() -> None:
    host = Host("a", "b")
    host.open()
    host.ask("a", 101, retry_after_s=3600.0, responses=1, busy=1)
    for name, delay_s in (("a", 0.0), ("b", GAP)):
        assert host.ask(name, 102, delay_s).asked_to_wait_s == pytest.approx(3599.0)


def test_a_busy_host_is_slowed_down_at_once_and_recovers_response_by_response() -> None:
    host = Host("a")
    host.open()
    for wanted in (0.5, 1.0, 2.0, 4.0):
        host.ask("a", 101, responses=1, busy=1)
        assert host.state.slowdown_s == wanted
    answers = 0
    while host.state.slowdown_s:
        host.ask("a", 200, responses=1, latency_s=0.01)
        answers += 1
    assert 5 < answers < 10
    assert host.ask("a", 300).unlimited_s
    for _ in range(20):
        host.ask("a", 400, GAP, responses=1, busy=1)
    assert host.state.slowdown_s == 60.0


def test_busy_responses_among_good_ones_slow_a_host_down_a_little() -> None:
    host = Host("a")
    host.open()
    for _ in range(50):
        host.ask("a", 101, responses=4, busy=2)
    assert host.state.slowdown_s == 0.5


def test_a_host_slower_than_its_baseline_is_slowed_down() -> None:
    host = Host("a")
    host.open()
    for _ in range(50):
        host.ask("a", 101, responses=1, latency_s=0.05)
    assert host.state.slowdown_s == 0
    for _ in range(5):
        host.ask("a", 102, responses=1, latency_s=2.0)
    assert host.state.slowdown_s > 1.0
    for _ in range(50):
        host.ask("a", 102, responses=1, latency_s=0.05)
    assert host.state.slowdown_s == 0


def test_a_host_that_has_always_been_slow_is_not() -> None:
    host = Host("a")
    host.open()
    for latency_s in (0.005, *[1.0] * 20):
        host.ask("a", 101, responses=1, latency_s=latency_s)
        assert host.state.slowdown_s == 0


def test_a_dead_holder_blocks_its_host_until_its_slot_expires() -> None:
    host = Host("a", "b")
    assert host.ask("a", 100, GAP).slot_s
    assert not host.ask("b", 101, GAP).slot_s
    permit = host.ask("b", 100 + SLOT_S + 0.01, GAP)
    assert permit.wait_s == pytest.approx(GAP - 0.01), "its request may have been sent at the very end"


def test_a_request_that_takes_long_keeps_its_slot() -> None:
    host = Host("a", "b")
    host.ask("a", 100, GAP)
    for later in range(5, 100, 5):
        host.ask("a", 100 + later, GAP, waiting=False, in_flight=True)
        assert not host.ask("b", 100 + later, GAP).slot_s


def test_an_unused_slot_is_free_at_once() -> None:
    host = Host("a", "b")
    host.ask("a", 100, GAP)
    host.ask("a", 101, GAP, waiting=False)
    assert host.ask("b", 101, GAP).slot_s
