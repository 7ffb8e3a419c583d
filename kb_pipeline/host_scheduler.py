"""Decides which crawl may request from a host next, among the crawls of all tenants, runs and machines.

A crawl never decides alone. It reports what it did at a host and gets a permit in return: wait, send one request (a
slot), or send any number of requests for a moment. With a gap to keep, slots are handed out one at a time, and the next
one starts only when the server has responded to the last: the server received that request before it responded, so no
two requests reach it closer together than the gap, however long connecting took. With no delay configured and a healthy
host, requests are not throttled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

SLOT_S = 20.0
"""How long a slot blocks its host after the last report on it: the crawl may be dead, its request may not."""
KEEPALIVE_S = SLOT_S / 4
"""How often a crawl reports a request that is still in flight."""
UNLIMITED_S = 1.0
"""How long a crawl may send requests without asking again whether another crawl wants a gap by now."""
CLIENT_TTL_S = 10.0
"""How long a crawl that does not report counts as active at the host."""
CRAWL_DELAY_TTL_S = 24 * 3600.0
"""How long a Crawl-delay holds: as long as a robots.txt may be cached (RFC 9309, 2.4)."""
MAX_RETRY_AFTER_S = 24 * 3600.0
_START_GRACE_S = 0.1
"""How late the next crawl in line may claim its slot before the one after it may."""
_POLL_INTERVAL_S = (0.02, 0.25)
"""The shortest and the longest wait before a crawl asks again whether another crawl's slot has ended."""
_MAX_SLOWDOWN_S = 60.0
_MIN_BACKOFF_BASE_S = 0.25
"""The delay that a slowdown doubles where none is configured: the first 429 or 503 makes it half a second, the next in
a row one."""
_RECOVERY_FACTOR = 0.5
"""What remains of a slowdown after each good response."""
_MIN_SLOWDOWN_S = 0.05
_LATENCY_WEIGHT = 0.2
_BASELINE_WEIGHT = 0.02
"""The weight of one response in the current mean latency, and in the baseline, once that rests on fifty responses."""
_SLOW_FACTOR = 2.0
_SLOW_MARGIN_S = 0.25
"""A host is slowed down when its latency exceeds the baseline by this factor and this margin."""


@dataclass(slots=True)
class Report:
    """What a crawl did at a host since its last report, and whether it has a request to send."""

    delay_s: float
    """The least time between two requests that the crawl keeps there: its source's own or robots.txt's."""
    waiting: bool = False
    """Whether a request waits for a permit."""
    in_flight: bool = False
    """Whether the request of the crawl's slot is still in flight."""
    responded_ago_s: float | None = None
    """Seconds since the server last began to respond, or failed to; None when no request ended."""
    responses: int = 0
    busy: int = 0
    """How many of the responses were 429 or 503."""
    latency_s: float = 0.0
    """Mean time from sending a request to the first byte of its response."""
    crawl_delay_s: float | None = None
    """The Crawl-delay of robots.txt, 0 when it has none; None when it was not read since the last report."""
    retry_after_s: float = 0.0
    """How long the host asked to be left alone."""


@dataclass(frozen=True, slots=True)
class Permit:
    """What a crawl may do at a host; with neither slot_s nor unlimited_s it waits and asks again."""

    wait_s: float = 0.0
    """Send nothing for this long; then the slot starts, or, without one, ask again."""
    slot_s: float = 0.0
    """After the wait, one request may start within this long."""
    unlimited_s: float = 0.0
    """For this long, any number of requests may start."""
    asked_to_wait_s: float = 0.0
    """How long the host itself still asks to be left alone (Retry-After, Crawl-delay)."""


class HostScheduler(Protocol):
    """Hands out permits to one crawl, in competition with all others that request from the same hosts."""

    def exchange(self, reports: Mapping[str, Report]) -> dict[str, Permit]:
        """Return a permit for every host reported on."""

    def close(self) -> None:
        """Release the slots of a crawl that has ended or died."""


class HostState(Protocol):
    """What the scheduler knows of a host; times are seconds of one clock."""

    last_at: float
    """The last moment at which a request may have reached it."""
    holder: str
    """The client that holds the slot; empty when none does."""
    held_until: float
    retry_at: float
    """When the host may be asked again, by its own Retry-After."""
    slowdown_s: float
    busy_in_a_row: int
    """Consecutive reports with nothing but 429 and 503."""
    latency_s: float
    """The current latency, as a moving mean."""
    usual_s: float
    """The baseline latency."""
    answers: int
    """How many responses the baseline rests on, up to fifty."""
    crawl_delay_s: float
    crawl_delay_until: float
    """When crawl_delay_s expires; before robots.txt has been read, no permit is unlimited."""


class ClientState(Protocol):
    """One crawl at one host."""

    client_id: str
    """Names the crawl: its run and source."""
    tenant: str
    delay_s: float
    waiting: bool
    unlimited_until: float
    last_slot_at: float
    seen_until: float


def decide(host: HostState, clients: Iterable[ClientState], client: ClientState, report: Report, now: float) -> Permit:
    """Apply a report to the states of its host and client, and return what the client may do next.

    Slots go round robin over tenants, and within a tenant over its crawls: the one whose last slot is longest ago is
    next, so each tenant gets the same share of a host however many crawls it runs.

    Args:
        host: the state of the host; changed in place.
        clients: the states of all clients of this host; `client` is one of them.
        client: the state of the crawl that reports; changed in place.
        report: what the crawl reports.
        now: the time, in seconds of the states' clock.
    """
    _apply_report(host, client, report, now)
    client.delay_s, client.waiting, client.seen_until = report.delay_s, report.waiting, now + CLIENT_TTL_S
    if report.in_flight:
        if host.holder == client.client_id:
            host.held_until = now + SLOT_S
        return Permit(wait_s=KEEPALIVE_S)
    if not report.waiting:
        return Permit(wait_s=CLIENT_TTL_S)
    active = [other for other in clients if other.seen_until > now]
    is_robots_known = host.crawl_delay_until > now
    gap = max(host.slowdown_s, _crawl_delay(host, now), *(other.delay_s for other in active))
    if gap == 0 and is_robots_known and host.retry_at <= now and not host.holder:
        client.unlimited_until, client.waiting = now + UNLIMITED_S, False
        return Permit(unlimited_s=UNLIMITED_S)
    permit = _next_slot(host, active, client, gap, now)
    client.seen_until += permit.wait_s
    return permit


def _apply_report(host: HostState, client: ClientState, report: Report, now: float) -> None:
    if host.holder and host.held_until <= now:
        host.last_at, host.holder = max(host.last_at, host.held_until), ""
    if host.holder == client.client_id and not report.in_flight:
        host.holder = ""
    if report.responded_ago_s is not None:
        host.last_at = max(host.last_at, now - report.responded_ago_s)
    if report.crawl_delay_s is not None:
        host.crawl_delay_s, host.crawl_delay_until = report.crawl_delay_s, now + CRAWL_DELAY_TTL_S
    if report.retry_after_s:
        host.retry_at = max(host.retry_at, now + min(report.retry_after_s, MAX_RETRY_AFTER_S))
    if report.responses:
        _adapt(host, client, report)


def _adapt(host: HostState, client: ClientState, report: Report) -> None:
    """Slow down at once when the host is busy or slower than its baseline, and recover response by response.

    The slowdown doubles with each busy report in a row: a few broken pages among good ones slow a host down a little,
    while a host that cannot respond at all soon gets one request a minute.
    """
    if report.busy:
        host.busy_in_a_row = host.busy_in_a_row + 1 if report.busy == report.responses else 1
        slowdown_s = max(client.delay_s, _MIN_BACKOFF_BASE_S) * 2.0 ** min(host.busy_in_a_row, 20)
        host.slowdown_s = max(host.slowdown_s, min(slowdown_s, _MAX_SLOWDOWN_S))
        return
    host.busy_in_a_row = 0
    host.slowdown_s *= _RECOVERY_FACTOR**report.responses
    host.answers = min(host.answers + report.responses, round(1 / _BASELINE_WEIGHT))
    host.usual_s += min(1.0, report.responses / host.answers) * (report.latency_s - host.usual_s)
    host.latency_s += (1 - (1 - _LATENCY_WEIGHT) ** report.responses) * (report.latency_s - host.latency_s)
    if host.latency_s > _SLOW_FACTOR * host.usual_s + _SLOW_MARGIN_S:
        host.slowdown_s = max(host.slowdown_s, min(host.latency_s, _MAX_SLOWDOWN_S))
    if host.slowdown_s < _MIN_SLOWDOWN_S:
        host.slowdown_s = 0.0


def _next_slot(host: HostState, active: list[ClientState], client: ClientState, gap: float, now: float) -> Permit:
    unlimited_end = max((other.unlimited_until for other in active if other is not client), default=0.0)
    if unlimited_end > now:
        host.last_at = max(host.last_at, unlimited_end)  # until then others may send requests without a slot
    host_wait_s = max(0.0, host.retry_at - now, host.last_at + _crawl_delay(host, now) - now)
    if host.holder:
        shortest, longest = _POLL_INTERVAL_S
        return Permit(wait_s=max(shortest, min(longest, gap / 2)), asked_to_wait_s=host_wait_s)
    ready = max(host.last_at + gap, host.retry_at)
    waiting = _round_robin([other for other in active if other.waiting])
    if len(waiting) > 1:
        # The slot goes to the crawl that is first in line when it starts, since more may join until then. A crawl
        # that waits alone reserves it at once.
        claim_at = ready + waiting.index(client.client_id) * _START_GRACE_S
        if claim_at > now:
            return Permit(wait_s=claim_at - now, asked_to_wait_s=host_wait_s)
    start = max(now, ready)
    host.holder, host.held_until, client.last_slot_at = client.client_id, start + SLOT_S, start
    return Permit(wait_s=start - now, slot_s=SLOT_S / 2, asked_to_wait_s=host_wait_s)


def _crawl_delay(host: HostState, now: float) -> float:
    return host.crawl_delay_s if host.crawl_delay_until > now else 0.0


def _round_robin(waiting: list[ClientState]) -> list[str]:
    """Return the ids of the waiting clients, next one first: the tenant, then the client, served longest ago."""
    tenant_served_at: dict[str, float] = {}
    for client in waiting:
        tenant_served_at[client.tenant] = max(tenant_served_at.get(client.tenant, 0.0), client.last_slot_at)

    def order(client: ClientState) -> tuple[float, str, float, str]:
        return tenant_served_at[client.tenant], client.tenant, client.last_slot_at, client.client_id

    return [client.client_id for client in sorted(waiting, key=order)]


@dataclass(slots=True)
class LocalHost:
    """A HostState in memory."""

    last_at: float = 0.0
    holder: str = ""
    held_until: float = 0.0
    retry_at: float = 0.0
    slowdown_s: float = 0.0
    busy_in_a_row: int = 0
    latency_s: float = 0.0
    usual_s: float = 0.0
    answers: int = 0
    crawl_delay_s: float = 0.0
    crawl_delay_until: float = 0.0


@dataclass(slots=True)
class LocalClient:
    """A ClientState in memory."""

    client_id: str = "local"
    tenant: str = "local"
    delay_s: float = 0.0
    waiting: bool = False
    unlimited_until: float = 0.0
    last_slot_at: float = 0.0
    seen_until: float = 0.0


class LocalHostScheduler:
    """Makes the same decisions in memory, for a crawl that shares its hosts with no other."""

    def __init__(self) -> None:
        self._states: dict[str, tuple[LocalHost, LocalClient]] = {}

    def exchange(self, reports: Mapping[str, Report]) -> dict[str, Permit]:
        """Return a permit for every host reported on."""
        now, permits = monotonic(), {}
        for name, report in reports.items():
            host, client = self._states.setdefault(name, (LocalHost(), LocalClient()))
            permits[name] = decide(host, [client], client, report, now)
        return permits

    def close(self) -> None:
        """Do nothing: no other crawl waits for these hosts."""
