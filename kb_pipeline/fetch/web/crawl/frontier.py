"""The URLs still to visit: each enters once, hosts take turns, and no body is ever held."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from kb_pipeline.fetch.web.crawl.known_pages import KnownPage


@dataclass(frozen=True, slots=True)
class CrawlRequest:
    """A URL to visit."""

    url: str
    depth: int
    chain: tuple[str, ...] = ()
    """The URLs that redirected here, oldest first."""
    is_start: bool = False
    """A start URL or what one redirects to: it may widen the scope and is fetched for its links at least."""
    is_repetitive: bool = False
    """Whether only pages that say nothing new lead here."""
    known: KnownPage | None = None
    """What an earlier refresh knows of it, when whoever made the visit had it at hand."""


class Frontier:
    """Round robin over the hosts; of each host the nearest to a start URL first, what is repetitive last."""

    def __init__(self, capacity: int, per_host: int, *, by_depth: bool = True) -> None:
        self._capacity, self._per_host, self._by_depth = capacity, per_host, by_depth
        # 64-bit hashes instead of URLs: a tenth of the memory, and a clash among a million has odds of 1 in
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
        """Whether the URL is new; it is not the next time."""
        before = len(self._seen)
        self._seen.add(hash(url))
        return len(self._seen) > before

    def has_seen(self, url: str) -> bool:
        """Whether the URL has been marked."""
        return hash(url) in self._seen

    @property
    def is_full(self) -> bool:
        """Whether discovered URLs should be turned away."""
        return self._queued >= self._capacity

    def put(self, host: str, visit: CrawlRequest) -> None:
        """Queue a visit; whoever calls has marked its URL."""
        queue = self._queues.get(host)
        if queue is None:
            queue = self._queues[host] = []
            self._turns.append(host)
        if visit.is_repetitive:
            self._repetitive.add(hash(visit.url))
        depth = visit.depth if self._by_depth else 0
        heapq.heappush(queue, (visit.is_repetitive, depth, next(self._order), visit))
        self._queued += 1

    def is_waiting_last(self, url: str) -> bool:
        """Whether a URL waits as a repetitive one."""
        return hash(url) in self._repetitive

    def promote(self, host: str, visit: CrawlRequest) -> None:
        """Queue a repetitive URL that still waits as one that is not."""
        self._repetitive.discard(hash(visit.url))  # which makes its old place void
        self._queued -= 1
        self.put(host, visit)

    def take(self) -> tuple[str, CrawlRequest] | None:
        """The next visit of the next host that has room for one more."""
        for _ in range(len(self._turns)):
            host = self._turns.popleft()
            if self._active.get(host, 0) >= self._per_host:
                self._turns.append(host)
                continue
            visit = self._pop(self._queues[host])
            if self._queues[host]:
                self._turns.append(host)
            else:
                del self._queues[host]
            if visit is not None:
                self._active[host] = self._active.get(host, 0) + 1
                self._queued -= 1
                return host, visit
        return None

    def _pop(self, queue: list[tuple[bool, int, int, CrawlRequest]]) -> CrawlRequest | None:
        while queue:
            is_repetitive, *_, visit = heapq.heappop(queue)
            if not is_repetitive:
                return visit
            if hash(visit.url) in self._repetitive:
                self._repetitive.discard(hash(visit.url))
                return visit
        return None

    def release(self, host: str) -> None:
        """A visit of this host is over."""
        left = self._active.get(host, 1) - 1
        if left:
            self._active[host] = left
        else:
            self._active.pop(host, None)

    def take_all(self) -> Iterator[CrawlRequest]:
        """What is left, once no visit is under way any more."""
        self._active.clear()
        while self._turns:
            if (taken := self.take()) is not None:
                self.release(taken[0])
                yield taken[1]
