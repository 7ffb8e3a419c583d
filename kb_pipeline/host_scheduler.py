"""Decides who may ask a host next: among the crawls of all tenants, runs and machines that ask the same one.

A crawl never decides alone. It reports what it did at a host and is told to wait, to make one request, or to make as
many as it likes for a moment. With a gap to keep, turns are taken one at a time, and the next one begins only when the
server has been heard: the server then got the request before that moment, so no two requests reach it closer than the
gap, however long connecting took. Where no crawl wants a gap and nothing slows the host down, nobody counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

TURN_S = 20.0
"""How long a request that nobody reports on any more blocks its host: the crawl may be dead, its request may not."""
HOLDING_S = TURN_S / 4
"""How often a request that takes its time is to be reported."""
FREE_S = 1.0
"""How long a crawl may ask a host freely before it has to look again whether others want a gap by now."""
PRESENT_S = 10.0
"""How long a crawl that does not report counts as one that still asks the host."""
CRAWL_DELAY_S = 24 * 3600.0
"""How long a Crawl-delay holds: as long as a robots.txt may be remembered (RFC 9309, 2.4)."""
LONGEST_RETRY_AFTER_S = 24 * 3600.0
_LATE_S = 0.1
"""How late whoever is next may come before it is the turn of the one after."""
_LOOK_AGAIN_S = (0.02, 0.25)
"""The least and the longest wait before looking again whether another's request has ended."""
_LONGEST_SLOWDOWN_S = 60.0
_LEAST_DELAY_S = 0.25
"""What a slowdown doubles where no delay is kept: a first 429 or 503 makes it half a second, the next in a row one."""
_RECOVERY = 0.5
"""What is left of a slowdown after each good answer."""
_LEAST_SLOWDOWN_S = 0.05
_NEWEST = 0.2
_USUAL = 0.02
"""The weight of one answer in the mean latency of now, and in the usual one, once that rests on fifty answers."""
_SLOWER = 2.0
_SLOWER_BY_S = 0.25
"""A host is slowed down when it answers so many times slower than usual, and by so much."""


@dataclass(slots=True)
class Report:
    """What a crawl did at a host since it last reported, and what it wants there."""

    delay_s: float
    """The least time between two requests that the crawl keeps there: its source's own or robots.txt's."""
    wants: bool = False
    """Whether a request waits for its turn."""
    holds: bool = False
    """Whether the request of its turn is still under way."""
    heard_ago_s: float | None = None
    """Seconds since the server last began to answer, or failed to; None when no request ended."""
    answers: int = 0
    busy: int = 0
    """How many of the answers were 429 or 503."""
    latency_s: float = 0.0
    """From asking to the first byte, at the mean over the answers."""
    crawl_delay_s: float | None = None
    """What robots.txt asks for, 0 when nothing; None when it has not been read since the last report."""
    retry_after_s: float = 0.0
    """How long the host asked to be left alone."""


@dataclass(frozen=True, slots=True)
class Permit:
    """What a crawl may do at a host; without turn_s and free_s it has to wait and to ask again."""

    wait_s: float = 0.0
    """Do nothing for so long; then the turn begins, or, without one, ask again."""
    turn_s: float = 0.0
    """After the wait one request may be begun, within so long."""
    free_s: float = 0.0
    """For so long any number of requests may be begun."""
    asked_to_wait_s: float = 0.0
    """How long the host itself still asks to be left alone (Retry-After, Crawl-delay)."""


class HostScheduler(Protocol):
    """The turns of one crawl among all that ask the same hosts."""

    def exchange(self, reports: Mapping[str, Report]) -> dict[str, Permit]:
        """A grant for every host reported on."""

    def leave(self) -> None:
        """The crawl is over, or dead: whatever it holds is free again."""


class HostState(Protocol):
    """What is known of a host; times in seconds of one clock."""

    last_at: float
    """The last moment at which a request may have reached it."""
    holder: str
    """The guest whose turn it is, or nobody's name."""
    held_until: float
    retry_at: float
    """When it may be asked again, by its own Retry-After."""
    slowdown_s: float
    busy_in_a_row: int
    """Reports of nothing but 429 and 503."""
    latency_s: float
    """Of now, as a moving mean."""
    usual_s: float
    """The latency that is usual for it."""
    answers: int
    """On how many answers the usual latency rests, up to fifty."""
    crawl_delay_s: float
    crawl_delay_until: float
    """Until when crawl_delay_s is known; before robots.txt has been read, nobody asks freely."""


class GuestState(Protocol):
    """One crawl at one host."""

    guest: str
    tenant: str
    delay_s: float
    wants: bool
    free_until: float
    last_turn_at: float
    seen_until: float


def decide(host: HostState, guests: Iterable[GuestState], me: GuestState, report: Report, now: float) -> Permit:
    """Take note of a report and say what its crawl may do next; changes the states, of which `me` is one of `guests`.

    Tenants take turns, and within a tenant its crawls: whoever waits longest since its last turn is next, so that each
    tenant gets the same share of a host however many crawls it sends.
    """
    _note(host, me, report, now)
    me.delay_s, me.wants, me.seen_until = report.delay_s, report.wants, now + PRESENT_S
    if report.holds:
        if host.holder == me.guest:
            host.held_until = now + TURN_S
        return Permit(wait_s=HOLDING_S)
    if not report.wants:
        return Permit(wait_s=PRESENT_S)
    present = [guest for guest in guests if guest.seen_until > now]
    knows_robots = host.crawl_delay_until > now
    gap = max(host.slowdown_s, _crawl_delay(host, now), *(guest.delay_s for guest in present))
    if gap == 0 and knows_robots and host.retry_at <= now and not host.holder:
        me.free_until, me.wants = now + FREE_S, False
        return Permit(free_s=FREE_S)
    grant = _turn(host, present, me, gap, now)
    me.seen_until += grant.wait_s
    return grant


def _note(host: HostState, me: GuestState, report: Report, now: float) -> None:
    if host.holder and host.held_until <= now:
        host.last_at, host.holder = max(host.last_at, host.held_until), ""
    if host.holder == me.guest and not report.holds:
        host.holder = ""
    if report.heard_ago_s is not None:
        host.last_at = max(host.last_at, now - report.heard_ago_s)
    if report.crawl_delay_s is not None:
        host.crawl_delay_s, host.crawl_delay_until = report.crawl_delay_s, now + CRAWL_DELAY_S
    if report.retry_after_s:
        host.retry_at = max(host.retry_at, now + min(report.retry_after_s, LONGEST_RETRY_AFTER_S))
    if report.answers:
        _adapt(host, me, report)


def _adapt(host: HostState, me: GuestState, report: Report) -> None:
    """Slow down at once where the host is busy or slower than usual, and come back answer by answer.

    Doubled with each busy answer in a row: a few broken pages among good ones slow a host down a little, a host that
    cannot answer at all is soon left alone for a minute.
    """
    if report.busy:
        host.busy_in_a_row = host.busy_in_a_row + 1 if report.busy == report.answers else 1
        wanted = max(me.delay_s, _LEAST_DELAY_S) * 2.0 ** min(host.busy_in_a_row, 20)
        host.slowdown_s = max(host.slowdown_s, min(wanted, _LONGEST_SLOWDOWN_S))
        return
    host.busy_in_a_row = 0
    host.slowdown_s *= _RECOVERY**report.answers
    host.answers = min(host.answers + report.answers, round(1 / _USUAL))
    host.usual_s += min(1.0, report.answers / host.answers) * (report.latency_s - host.usual_s)
    host.latency_s += (1 - (1 - _NEWEST) ** report.answers) * (report.latency_s - host.latency_s)
    if host.latency_s > _SLOWER * host.usual_s + _SLOWER_BY_S:
        host.slowdown_s = max(host.slowdown_s, min(host.latency_s, _LONGEST_SLOWDOWN_S))
    if host.slowdown_s < _LEAST_SLOWDOWN_S:
        host.slowdown_s = 0.0


def _turn(host: HostState, present: list[GuestState], me: GuestState, gap: float, now: float) -> Permit:
    free_end = max((guest.free_until for guest in present if guest is not me), default=0.0)
    if free_end > now:
        host.last_at = max(host.last_at, free_end)  # until then others may ask without a turn
    asked_s = max(0.0, host.retry_at - now, host.last_at + _crawl_delay(host, now) - now)
    if host.holder:
        least, longest = _LOOK_AGAIN_S
        return Permit(wait_s=max(least, min(longest, gap / 2)), asked_to_wait_s=asked_s)
    ready = max(host.last_at + gap, host.retry_at)
    waiting = _in_order([guest for guest in present if guest.wants])
    # Who is next is decided when the turn begins, since others may come until then; who is alone has it at once.
    if len(waiting) > 1 and (begin := ready + waiting.index(me.guest) * _LATE_S) > now:
        return Permit(wait_s=begin - now, asked_to_wait_s=asked_s)
    begin = max(now, ready)
    host.holder, host.held_until, me.last_turn_at = me.guest, begin + TURN_S, begin
    return Permit(wait_s=begin - now, turn_s=TURN_S / 2, asked_to_wait_s=asked_s)


def _crawl_delay(host: HostState, now: float) -> float:
    return host.crawl_delay_s if host.crawl_delay_until > now else 0.0


def _in_order(waiting: list[GuestState]) -> list[str]:
    served: dict[str, float] = {}
    for guest in waiting:
        served[guest.tenant] = max(served.get(guest.tenant, 0.0), guest.last_turn_at)
    return [g.guest for g in sorted(waiting, key=lambda g: (served[g.tenant], g.tenant, g.last_turn_at, g.guest))]


@dataclass(slots=True)
class _Host:
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
class _Guest:
    guest: str = "alone"
    tenant: str = "alone"
    delay_s: float = 0.0
    wants: bool = False
    free_until: float = 0.0
    last_turn_at: float = 0.0
    seen_until: float = 0.0


class UnsharedTurns:
    """For a crawl that can meet no other: the same decisions, remembered by itself."""

    def __init__(self) -> None:
        self._states: dict[str, tuple[_Host, _Guest]] = {}

    def exchange(self, reports: Mapping[str, Report]) -> dict[str, Permit]:
        """A grant for every host reported on."""
        now, grants = monotonic(), {}
        for name, report in reports.items():
            host, me = self._states.setdefault(name, (_Host(), _Guest()))
            grants[name] = decide(host, [me], me, report, now)
        return grants

    def leave(self) -> None:
        """Nobody waits for it."""
