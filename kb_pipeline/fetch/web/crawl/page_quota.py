"""How many pages a crawl may still ask for: the crawl takes them a block at a time, somebody else keeps the account."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from kb_pipeline.fetch.web.crawl.journal import PagesUsed

BLOCK = 100
"""Pages taken at once. What a crawl does not use of them goes back when its journal is counted."""


class PageAccount(Protocol):
    """The account of one KB's fetches."""

    def take(self, pages: int) -> int | None:
        """How many of so many pages may be asked for; None when nothing limits them."""

    def count(self, fetch_id: str, days: Mapping[str, PagesUsed]) -> None:
        """Note all that a fetch has used, by UTC day; of what is said twice of a fetch and a day the last counts."""


class Unlimited:
    """The account of those who may ask for everything."""

    def take(self, pages: int) -> int | None:
        """Nothing limits them."""

    def count(self, fetch_id: str, days: Mapping[str, PagesUsed]) -> None:
        """Nobody wants to know."""


class Allowance:
    """What a crawl has of its account, for all its visits."""

    def __init__(self, take: Callable[[int], Awaitable[int | None]]) -> None:
        self._take, self._lock = take, asyncio.Lock()
        self._left = 0
        self._is_limited = True
        self.is_used_up = False
        """Nothing more is asked for."""

    async def spend(self) -> bool:
        """Whether one more page may be asked for."""
        async with self._lock:
            if self._is_limited and not self._left and not self.is_used_up:
                taken = await self._take(BLOCK)
                self._is_limited, self._left = taken is not None, taken or 0
                self.is_used_up = taken == 0
            if self._is_limited and not self.is_used_up:
                self._left -= 1
            return not self.is_used_up

    def give_back(self) -> None:
        """A page that was not asked for after all."""
        if self._is_limited:
            self._left += 1
            self.is_used_up = False


async def unlimited(_: int) -> int | None:
    """What a crawl takes of no account."""
    return None
