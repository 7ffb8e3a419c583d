"""Queues the URLs still to be fetched: each once, round robin over the hosts."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from random import Random

from kb_pipeline.fetch.web.crawl.known_pages import KnownPage


@dataclass(frozen=True, slots=True)
class CrawlRequest:
    """A URL to fetch."""

    url: str
    depth: int
    chain: tuple[str, ...] = ()
    """The URLs that redirected here, oldest first."""
    is_start: bool = False
    """A start URL or what one redirects to: it may widen the scope and is fetched for its links at least."""
    is_repetitive: bool = False
    """Whether only pages without new text link here."""
    known: KnownPage | None = None
    """What an earlier refresh stored of it, if it was looked up when the request was made."""
    is_exempt: bool = False
    """Whether it is visited whatever URLs like it led to: a sitemap names it."""
    via: str | None = None
    """The page without new text that led here first."""


class ParkedUrls:
    """URLs that wait for credit, by the pattern that has none and within it by their own pattern; see traps."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: dict[str, dict[str, dict[str, CrawlRequest]]] = {}
        self._places: dict[str, tuple[str, str]] = {}
        self._turns: deque[str] = deque()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, url: str) -> bool:
        return url in self._places

    @property
    def is_full(self) -> bool:
        """Whether there is no room for more."""
        return len(self) >= self._capacity

    def park(self, pattern: str, own: str, request: CrawlRequest) -> None:
        """Keep a request of its own pattern until this one, which may be a larger part of the site, has credit."""
        if pattern not in self._waiting:
            self._waiting[pattern] = {}
            self._turns.append(pattern)
        self._waiting[pattern].setdefault(own, {})[request.url] = request
        self._places[request.url] = (pattern, own)

    def come_nearer(self, request: CrawlRequest) -> None:
        """Note that a parked URL has been met again, if it is nearer to a start URL there."""
        pattern, own = self._places[request.url]
        waiting = self._waiting[pattern][own]
        if request.depth < waiting[request.url].depth:
            waiting[request.url] = request

    def pop(self, url: str) -> CrawlRequest:
        """Return and forget one parked request."""
        pattern, own = self._places.pop(url)
        groups = self._waiting[pattern]
        request = groups[own].pop(url)
        if not groups[own]:
            del groups[own]
        if not groups:
            del self._waiting[pattern]
            self._turns.remove(pattern)
        return request

    def pop_allowed(
        self, pattern: str, most: int, is_allowed: Callable[[str], bool], groups: int | None = None
    ) -> list[CrawlRequest]:
        """Return and forget requests that waited for a pattern, a few of each own pattern that may go on.

        Args:
            pattern: what they waited for.
            most: how many are returned at most.
            is_allowed: whether a URL may be visited now.
            groups: how many of the own patterns are looked at; they take turns. None for all of them.
        """
        found: list[CrawlRequest] = []
        waiting = self._waiting.get(pattern, {})
        for own in list(islice(waiting, groups)):
            urls = waiting[own]
            if len(found) < most and is_allowed(next(iter(urls))):
                left = max(1, (most - len(found)) // len(waiting))
                found += [self.pop(url) for url in list(islice(urls, left))]
            if own in waiting:
                waiting[own] = waiting.pop(own)  # to the end
        return found

    def patterns(self) -> list[str]:
        """Return the patterns that URLs wait for."""
        return list(self._waiting)

    def candidates(self, chance: Random) -> Iterator[CrawlRequest]:
        """Yield one parked request of each pattern, any of those that wait for it; patterns take turns."""
        for _ in range(len(self._turns)):
            self._turns.rotate(-1)
            groups = self._waiting[self._turns[-1]]
            waiting = groups[next(islice(groups, chance.randrange(len(groups)), None))]
            yield waiting[next(islice(waiting, chance.randrange(len(waiting)), None))]

    def pop_all(self) -> Iterator[tuple[str, CrawlRequest]]:
        """Yield and forget every request, with its pattern."""
        for pattern, groups in self._waiting.items():
            for waiting in groups.values():
                for request in waiting.values():
                    yield pattern, request
        self._waiting, self._places = {}, {}
        self._turns.clear()


class Frontier:
    """Round robin over the hosts; within a host, URLs nearest to a start URL come first and repetitive ones last."""

    def __init__(self, capacity: int, per_host: int, *, by_depth: bool = True) -> None:
        self._capacity, self._per_host, self._by_depth = capacity, per_host, by_depth
        # 64-bit hashes instead of URLs: a tenth of the memory, and a collision among a million URLs has odds of 1 in
        # 10^7.
        self._seen: set[int] = set()
        self._repetitive: set[int] = set()
        self._queues: dict[str, list[tuple[bool, int, int, CrawlRequest]]] = {}
        self._turns: deque[str] = deque()
        self._active: dict[str, int] = {}
        self._queued, self._order = 0, count()

    def __len__(self) -> int:
        return self._queued

    def mark_seen(self, url: str) -> bool:
        """Mark a URL as seen; return whether it was new."""
        before = len(self._seen)
        self._seen.add(hash(url))
        return len(self._seen) > before

    @property
    def seen_count(self) -> int:
        """The number of URLs that have been marked."""
        return len(self._seen)

    def has_seen(self, url: str) -> bool:
        """Whether the URL has been marked."""
        return hash(url) in self._seen

    @property
    def is_full(self) -> bool:
        """Whether there is no room for more discovered URLs."""
        return self._queued >= self._capacity

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and no request is in progress."""
        return not self._queued and not self._active

    def enqueue(self, host: str, request: CrawlRequest) -> None:
        """Queue a request whose URL the caller has marked as seen."""
        queue = self._queues.get(host)
        if queue is None:
            queue = self._queues[host] = []
            self._turns.append(host)
        if request.is_repetitive:
            self._repetitive.add(hash(request.url))
        depth = request.depth if self._by_depth else 0
        heapq.heappush(queue, (request.is_repetitive, depth, next(self._order), request))
        self._queued += 1

    def is_waiting_last(self, url: str) -> bool:
        """Whether a URL is queued as a repetitive one."""
        return hash(url) in self._repetitive

    def promote(self, host: str, request: CrawlRequest) -> None:
        """Requeue a repetitive URL as one that is not."""
        self._repetitive.discard(hash(request.url))  # voids its old entry in the queue
        self._queued -= 1
        self.enqueue(host, request)

    def take(self) -> tuple[str, CrawlRequest] | None:
        """Return the next request of the next host that has room for one more, with its host; None when no host has."""
        for _ in range(len(self._turns)):
            host = self._turns.popleft()
            if self._active.get(host, 0) >= self._per_host:
                self._turns.append(host)
                continue
            request = self._pop(self._queues[host])
            if self._queues[host]:
                self._turns.append(host)
            else:
                del self._queues[host]
            if request is not None:
                self._active[host] = self._active.get(host, 0) + 1
                self._queued -= 1
                return host, request
        return None

    def _pop(self, queue: list[tuple[bool, int, int, CrawlRequest]]) -> CrawlRequest | None:
        while queue:
            is_repetitive, *_, request = heapq.heappop(queue)
            if not is_repetitive:
                return request
            if hash(request.url) in self._repetitive:
                self._repetitive.discard(hash(request.url))
                return request
        return None

    def release(self, host: str) -> None:
        """Note that a request to this host has ended."""
        left = self._active.get(host, 1) - 1
        if left:
            self._active[host] = left
        else:
            self._active.pop(host, None)

    def take_all(self) -> Iterator[CrawlRequest]:
        """Yield what is left in the queues; call it when no request is in progress."""
        self._active.clear()
        while self._turns:
            if (taken := self.take()) is not None:
                self.release(taken[0])
                yield taken[1]
