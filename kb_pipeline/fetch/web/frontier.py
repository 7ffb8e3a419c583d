"""The URLs still to visit: each enters once, hosts take turns, and no body is ever held."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from kb_pipeline.fetch.web.known import KnownPage


@dataclass(frozen=True, slots=True)
class Visit:
    """A URL to visit."""

    url: str
    depth: int
    chain: tuple[str, ...] = ()
    """The URLs that redirected here, oldest first."""
    is_start: bool = False
    """A start URL or what one redirects to: it may widen the scope and is fetched for its links at least."""
    known: KnownPage | None = None
    """The stored page, when whoever made the visit had it at hand."""


class Frontier:
    """First in, first out for each host; round robin over the hosts."""

    def __init__(self, capacity: int, per_host: int) -> None:
        self._capacity, self._per_host = capacity, per_host
        # 64-bit hashes instead of URLs: a tenth of the memory, and a clash among a million has odds of 1 in
        # 10^7.
        self._seen: set[int] = set()
        self._queues: dict[str, deque[Visit]] = {}
        self._turns: deque[str] = deque()
        self._active: dict[str, int] = {}
        self._queued = 0

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

    def put(self, host: str, visit: Visit) -> None:
        """Queue a visit; whoever calls has marked its URL."""
        queue = self._queues.get(host)
        if queue is None:
            queue = self._queues[host] = deque()
            self._turns.append(host)
        queue.append(visit)
        self._queued += 1

    def take(self) -> tuple[str, Visit] | None:
        """The next visit of the next host that has room for one more."""
        for _ in range(len(self._turns)):
            host = self._turns.popleft()
            if self._active.get(host, 0) >= self._per_host:
                self._turns.append(host)
                continue
            queue = self._queues[host]
            visit = queue.popleft()
            if queue:
                self._turns.append(host)
            else:
                del self._queues[host]
            self._active[host] = self._active.get(host, 0) + 1
            self._queued -= 1
            return host, visit
        return None

    def release(self, host: str) -> None:
        """A visit of this host is over."""
        left = self._active.get(host, 1) - 1
        if left:
            self._active[host] = left
        else:
            self._active.pop(host, None)

    def take_all(self) -> Iterator[Visit]:
        """What is left, once no visit is under way any more."""
        self._active.clear()
        while (taken := self.take()) is not None:
            self.release(taken[0])
            yield taken[1]
