"""Queues the URLs still to be fetched: each once, round robin over the hosts."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

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

    def has_seen(self, url: str) -> bool:
        """Whether the URL has been marked."""
        return hash(url) in self._seen

    @property
    def is_full(self) -> bool:
        """Whether there is no room for more discovered URLs."""
        return self._queued >= self._capacity

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
