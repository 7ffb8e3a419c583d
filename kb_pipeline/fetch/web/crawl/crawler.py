"""Crawls a site: revalidates the pages it knows, then fetches what is new, and records the outcome of each URL.

The pages of an earlier refresh come first, over a transport that is good at many small responses. They are conditional
requests, and only a page whose hash differs is parsed for links. New URLs, from those links and from the sitemaps, wait
in the frontier until then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kb_pipeline.fetch.web.crawl import outcomes
from kb_pipeline.fetch.web.crawl.fetch_page import FetchResult, PageFetcher
from kb_pipeline.fetch.web.crawl.frontier import CrawlRequest
from kb_pipeline.fetch.web.crawl.journal import Row
from kb_pipeline.fetch.web.crawl.known_pages import KnownPage, KnownPages
from kb_pipeline.fetch.web.crawl.link_policy import Discovery
from kb_pipeline.fetch.web.crawl.page_quota import PageQuota, unlimited
from kb_pipeline.fetch.web.crawl.resume import PreviousCrawl
from kb_pipeline.fetch.web.crawl.robots_cache import RobotsCache, StoredRobots
from kb_pipeline.fetch.web.crawl.sitemap_loader import SitemapHints, SitemapLoader
from kb_pipeline.fetch.web.crawl.statistics import Statistics
from kb_pipeline.fetch.web.http.client import PoliteClient, Request, Response, Transport
from kb_pipeline.fetch.web.parse.sitemaps import is_past
from kb_pipeline.fetch.web.politeness.host_throttle import CrawlStopped, Exchange, HostThrottles
from kb_pipeline.fetch.web.rules import CrawlFiles, CrawlRules
from kb_pipeline.urls import canonical_url

if TYPE_CHECKING:
    from kb_pipeline.fetch.web.crawl.browser import Renderer

TOTAL_CONCURRENCY = 256
"""Requests in progress; most of them wait for their host's permit, since a transport has far fewer connections."""
_MAX_LASTMOD_CHARS = 64


class Crawler:
    """Crawls one source, from its start URLs to the last row: revalidate, discover if needed, finish.

    Host throttles, robots rules and statistics belong to the crawler, so they persist when the transport changes.
    """

    def __init__(
        self,
        rules: CrawlRules,
        files: CrawlFiles,
        statistics: Statistics,
        known: KnownPages,
        exchange: Exchange,
        take_pages: Callable[[int], Awaitable[int | None]] = unlimited,
    ) -> None:
        self._rules, self._journal, self._statistics, self._known_pages = rules, files.journal, statistics, known
        self.throttles = HostThrottles(rules.delay_s, rules.concurrency, exchange)
        self.client = PoliteClient(_no_transport, self.throttles, rules)
        stored = StoredRobots(files.notes)
        self._robots = RobotsCache(self.client, self.throttles, rules.user_agent, stored)
        self._hints = SitemapHints(files.notes / "sitemaps.json")
        self._discovery = Discovery(rules, known, statistics)
        self._quota = PageQuota(take_pages)
        self.renderer = _open_renderer(rules, self.client, self._robots)
        self._fetcher = PageFetcher(rules, self.client, self._robots, self._discovery, self.renderer, self._quota)
        self._lastmods: dict[int, str] = {}
        """By the hash of the URL, as in the frontier."""
        self._started = False
        self._active: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._wake = asyncio.Event()
        self._error: BaseException | None = None

    @property
    def queued(self) -> int:
        """The number of URLs that wait or are in progress."""
        return len(self._discovery) + len(self._active)

    @property
    def has_discoveries(self) -> bool:
        """Whether a new URL waits to be fetched."""
        return len(self._discovery.new) > 0 and self._has_room() and not self._stopping

    def stop(self) -> None:
        """Start no new request; those in flight run to their end."""
        self._stopping = True
        self.client.stop()
        self._wake.set()

    def cancel(self) -> None:
        """Cancel what is still in flight after a stop."""
        for task in self._active:
            task.cancel()

    async def revalidate(self, transport: Transport) -> None:
        """Fetch the start URLs, read the sitemaps, then revalidate every page of an earlier refresh."""
        self.client.transport, self._discovery.current = transport, self._discovery.known_urls
        await self._start()
        if not self._stopping:
            # Before the pages: the sitemaps' dates decide which of them are requested first, or at all.
            self._spawn(None, self._read_sitemaps())
        await self._drain()
        self._discovery.seed(self._known_pages.pages(self._may_have_changed))
        await self._drain()

    async def discover(self, transport: Transport) -> None:
        """Fetch new URLs, and those that they link to."""
        self.client.transport, self._discovery.current = transport, self._discovery.new
        if not self._started:
            await self._start()
            if not self._stopping:
                self._spawn(None, self._read_sitemaps())
        await self._drain()

    def finish(self) -> bool:
        """Record the URLs that were left over; return whether the crawl is complete (False after a stop)."""
        if not self._stopping:
            self._discovery.record_leftovers("quota" if self._quota.is_exhausted else "max_pages")
        return not self._stopping

    async def _start(self) -> None:
        self._started = True
        previous = PreviousCrawl(self._journal)
        for row in previous.rows():
            self._discovery.new.mark_seen(row.key)
        await self._fetch_start_urls(previous)
        self._resume(previous)

    # -- the loop

    async def _drain(self) -> None:
        while self._error is None:
            self._start_fetches()
            if not self._active:
                with contextlib.suppress(CrawlStopped):
                    await self.throttles.flush()
                return
            await self._wake.wait()
            self._wake.clear()
        self.cancel()
        await asyncio.gather(*self._active, return_exceptions=True)
        raise self._error

    def _start_fetches(self) -> None:
        while not self._stopping and self._has_room():
            taken = self._discovery.take()
            if taken is None:
                return
            self._spawn(taken[0], self._fetch(taken[1]))

    def _has_room(self) -> bool:
        if self._quota.is_exhausted:
            return False
        in_progress = len(self._active)
        # Every request in progress may keep a page, so max_pages is never exceeded.
        return in_progress < TOTAL_CONCURRENCY and self._statistics.kept + in_progress < self._rules.max_pages

    def _spawn(self, host: str | None, work: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.create_task(work)
        self._active.add(task)
        task.add_done_callback(lambda done: self._on_done(host, done))
        return task

    def _on_done(self, host: str | None, task: asyncio.Task[Any]) -> None:
        self._active.discard(task)
        if host is not None:
            self._discovery.current.release(host)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, CrawlStopped):
            self._error = self._error or error
        self._wake.set()

    # -- where URLs come from

    async def _fetch_start_urls(self, previous: PreviousCrawl) -> None:
        """Fetch the start URLs before all else: where they redirect to decides the scope."""
        queue = deque(CrawlRequest(url, 0, is_start=True) for url in dict.fromkeys(self._start_urls()))
        known_starts = {request.url for request in queue}
        while queue and not self._stopping and self._statistics.kept < self._rules.max_pages:
            request = queue.popleft()
            self._discovery.new.mark_seen(request.url)
            row = previous.start_row(request.url) or await self._fetch_alone(request)
            if row is None:
                return
            # Only a response tells how far the scope reaches; pages of an earlier refresh depend on it.
            self._fetcher.starts_failed |= row.outcome in ("failed", "rejected") and row.reason not in _ANSWERED
            target = row.redirect_to if row.outcome == "redirected" else None
            if target is not None:
                self._discovery.scope.admit(target)
            if target is not None and target not in known_starts:
                known_starts.add(target)
                queue.append(CrawlRequest(target, 0, (*request.chain, request.url), is_start=True))
        for request in queue:
            self._discovery.add(request)

    async def _fetch_alone(self, request: CrawlRequest) -> Row | None:
        """Fetch a URL outside the main loop; return its row, or None when the crawl was stopped meanwhile."""
        task = self._spawn(None, self._fetch(request))
        await asyncio.wait({task})
        if task.cancelled() or task.exception() is not None:
            return None
        row: Row = task.result()
        return row

    def _start_urls(self) -> Iterator[str]:
        for written in self._rules.start_urls:
            if (url := canonical_url(written)) is not None:
                yield url
            else:
                self._statistics.record(outcomes.refused(CrawlRequest(written, 0), "invalid_url"))
                self._fetcher.starts_failed = True

    def _resume(self, previous: PreviousCrawl) -> None:
        """Restore the state of an interrupted crawl from its journal."""
        for row in previous.rows():
            if not previous.was_replaced(row.key):
                self._statistics.count(row)
        for request in previous.retries():
            self._discovery.enqueue(request)
        for row in previous.rows():
            if row.outcome == "redirected" and row.redirect_to:
                self._discovery.consider([row.redirect_to], row.depth)
            self._discovery.consider(row.links or (), row.depth + 1)
        for row in previous.fetched_pages():
            if (page := self._fetcher.parse(row)) is not None:
                self._discovery.follow(CrawlRequest(row.key, row.depth), row, page)

    async def _read_sitemaps(self) -> None:
        files = SitemapLoader(self.client, self._robots, self._rules, self._hints, self._statistics.note_problem)
        spelled: dict[str, str] = {}
        async for url, lastmod in files.pages():
            if lastmod and len(lastmod) <= _MAX_LASTMOD_CHARS:
                self._lastmods[hash(url)] = spelled.setdefault(lastmod, lastmod)
            self._discovery.consider([url], min(1, self._rules.max_depth), from_sitemap=True)
            self._wake.set()

    def _may_have_changed(self, page: KnownPage) -> bool:
        """Return False if the sitemaps still name the stored lastmod; a lastmod never proves a change."""
        return page.lastmod is None or self._lastmods.get(hash(page.key)) != page.lastmod

    def _has_new_lastmod(self, page: KnownPage) -> bool:
        lastmod = self._lastmods.get(hash(page.key))
        return lastmod is not None and page.lastmod is not None and lastmod != page.lastmod

    # -- one URL

    async def _fetch(self, request: CrawlRequest) -> Row:
        known = request.known or self._known_pages.get(request.url)
        # Taken before the request: the response may be older than what the sitemap says by then.
        lastmod = self._past_lastmod(request.url)
        may_skip = self._rules.trust_lastmod and known is not None and not self._may_have_changed(known)
        may_wait = not request.is_start and (known is None or not self._has_new_lastmod(known))
        result = await self._fetcher.fetch(request, known, may_skip=may_skip, may_wait=may_wait)
        row = result.row
        row.lastmod = lastmod
        if result.page is not None and row.body is None:
            row.links = result.page.urls  # a resumed crawl could not find these links again
        self._statistics.record(row)
        self._follow(request, result)
        if row.outcome == "redirected" and row.redirect_to and not request.is_start:
            self._discovery.consider([row.redirect_to], request.depth, (*request.chain, request.url))
        return row

    def _follow(self, request: CrawlRequest, result: FetchResult) -> None:
        if result.page is None:
            return
        if request.is_start:
            self._hints.add(result.page.feeds)
        self._discovery.follow(request, result.row, result.page)

    def _past_lastmod(self, url: str) -> str | None:
        lastmod = self._lastmods.get(hash(url))
        return lastmod if lastmod and is_past(lastmod, datetime.now(UTC)) else None


_ANSWERED = frozenset({"excluded", "noindex"})
"""Reasons of a start URL that did respond, though its page is not kept."""


def _open_renderer(rules: CrawlRules, client: PoliteClient, robots: RobotsCache) -> Renderer | None:
    if rules.render == "never":
        return None
    from kb_pipeline.fetch.web.crawl.browser import Renderer

    return Renderer(rules, client, robots)


async def _no_transport(request: Request) -> Response:
    raise RuntimeError(f"no transport yet for {request.url}")
