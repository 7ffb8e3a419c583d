"""Limits how many pages a crawl may request: it takes them from an account, a batch at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kb_pipeline.fetch.page_budget import BATCH


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
