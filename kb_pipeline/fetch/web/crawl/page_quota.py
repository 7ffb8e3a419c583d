"""Limits how many pages a crawl may request: it takes them from an account, a batch at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from kb_pipeline.model import PagesUsed

BATCH = 100
"""Pages taken at once. Those that a crawl does not use return to the account when its journal is counted."""


class PageAccount(Protocol):
    """Limits and records the pages that one KB's fetches use."""

    def take(self, pages: int) -> int | None:
        """Take up to `pages` pages; return how many may be requested, None when there is no limit."""

    def count(self, fetch_id: str, days: Mapping[str, PagesUsed]) -> None:
        """Record what a fetch has used, by UTC day; a later call for the same fetch and day replaces an earlier one."""


class Unlimited:
    """An account without a limit."""

    def take(self, pages: int) -> int | None:
        """Return None: there is no limit."""

    def count(self, fetch_id: str, days: Mapping[str, PagesUsed]) -> None:
        """No-op."""


class PageQuota:
    """The pages that a crawl has taken from its account and not used yet."""

    def __init__(self, take: Callable[[int], Awaitable[int | None]]) -> None:
        self._take, self._lock = take, asyncio.Lock()
        self._left = 0
        self._is_limited = True
        self.is_exhausted = False
        """Whether the account has no more pages."""

    async def take_one(self) -> bool:
        """Take one page; return whether it may be requested."""
        async with self._lock:
            if self._is_limited and not self._left and not self.is_exhausted:
                taken = await self._take(BATCH)
                self._is_limited, self._left = taken is not None, taken or 0
                self.is_exhausted = taken == 0
            if self._is_limited and not self.is_exhausted:
                self._left -= 1
            return not self.is_exhausted

    def put_back(self) -> None:
        """Return a page that was not requested after all."""
        if self._is_limited:
            self._left += 1
            self.is_exhausted = False


async def unlimited(_: int) -> int | None:
    """Return None: a crawl without an account has no limit."""
    return None
