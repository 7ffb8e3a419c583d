"""How many pages a crawl may ask for: batches from the account, and what was not used given back."""

from __future__ import annotations

import asyncio

from kb_pipeline.fetch.page_budget import BATCH
from kb_pipeline.fetch.web.crawl.page_quota import PageQuota, unlimited


class Account:
    """So many pages, taken by nobody else."""

    def __init__(self, pages: int) -> None:
        self.left, self.calls = pages, 0

    async def __call__(self, pages: int) -> int | None:
        await asyncio.sleep(0)
        self.calls += 1
        given = min(pages, self.left)
        self.left -= given
        return given


def test_pages_are_taken_in_batches_and_end_with_the_account() -> None:
    async def crawl() -> None:
        account = Account(BATCH + 7)
        quota = PageQuota(account)
        taken = [await quota.take_one() for _ in range(BATCH + 9)]
        assert taken == [True] * (BATCH + 7) + [False, False]
        assert (quota.is_exhausted, account.calls) == (True, 3)

    asyncio.run(crawl())


def test_many_at_once_take_no_more_than_there_are() -> None:
    async def crawl() -> None:
        quota = PageQuota(Account(5))
        assert sum(await asyncio.gather(*(quota.take_one() for _ in range(20)))) == 5

    asyncio.run(crawl())


def test_a_page_that_was_not_asked_for_is_there_for_another() -> None:
    async def crawl() -> None:
        quota = PageQuota(Account(1))
        assert await quota.take_one()
        assert not await quota.take_one()
        quota.put_back()
        assert not quota.is_exhausted
        assert await quota.take_one()
        assert not await quota.take_one()

    asyncio.run(crawl())


def test_an_account_without_a_limit_is_asked_once() -> None:
    async def crawl() -> None:
        calls = 0

        async def take(pages: int) -> int | None:
            nonlocal calls
            calls += 1
            return await unlimited(pages)

        quota = PageQuota(take)
        assert all([await quota.take_one() for _ in range(3 * BATCH)])
        quota.put_back()
        assert (calls, quota.is_exhausted) == (1, False)

    asyncio.run(crawl())
