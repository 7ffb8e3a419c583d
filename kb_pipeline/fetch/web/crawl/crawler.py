"""Crawls a site: revalidates the pages it knows, then fetches what is new, and records the outcome of each URL.

The pages of an earlier refresh come first, over a transport that is good at many small responses. They are conditional
requests, and only a page whose hash differs is parsed for links; those of the others are stored. Then everything that
links lead to is decided anew, as if the whole site had been crawled: by rules of ours without a request, keys that the
server refused before when their pause is over. New URLs wait in the frontier until then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from kb_pipeline.fetch.web.crawl import outcomes
from kb_pipeline.fetch.web.crawl.fetch_page import FetchResult, PageFetcher, Verdict
from kb_pipeline.fetch.web.crawl.frontier import CrawlRequest
from kb_pipeline.fetch.web.crawl.journal import Row
from kb_pipeline.fetch.web.crawl.known_pages import KnownPage, KnownPages
from kb_pipeline.fetch.web.crawl.link_policy import Discovery
from kb_pipeline.fetch.web.crawl.orphans import Orphans
from kb_pipeline.fetch.web.crawl.page_quota import PageQuota, unlimited
from kb_pipeline.fetch.web.crawl.page_room import PageRoom
from kb_pipeline.fetch.web.crawl.resume import PreviousCrawl
from kb_pipeline.fetch.web.crawl.robots_cache import RobotsCache, StoredRobots
from kb_pipeline.fetch.web.crawl.sitemap_loader import SitemapHints, SitemapLoader
from kb_pipeline.fetch.web.crawl.statistics import Statistics
from kb_pipeline.fetch.web.http.client import PoliteClient, Request, Response, Transport
from kb_pipeline.fetch.web.link_graph import LinkGraph
from kb_pipeline.fetch.web.parse.sitemaps import is_past
from kb_pipeline.fetch.web.politeness.host_throttle import CrawlStopped, Exchange, HostThrottles
from kb_pipeline.fetch.web.rules import CrawlFiles, CrawlRules
from kb_pipeline.urls import canonical_url

if TYPE_CHECKING:
    from kb_pipeline.fetch.web.crawl.browser import Renderer

TOTAL_CONCURRENCY = 256
"""Requests in progress; most of them wait for their host's permit, since a transport has far fewer connections."""
_MAX_LASTMOD_CHARS = 64
_TURN = 256
"""URLs that are begun with before others on the event loop have their turn."""


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
        self._orphans = Orphans(files.notes / "orphans.json", rules)
        self._hints = SitemapHints(files.notes / "sitemaps.json")
        graph = LinkGraph.read(files.links) if len(known) else None
        self._discovery = Discovery(rules, known, statistics, graph, files.notes)
        self._room = PageRoom(rules.max_pages, known.pages_with_bytes, self._discovery.reach.held_pages)
        self._quota = PageQuota(take_pages)
        self.renderer = _open_renderer(rules, self.client, self._robots)
        self._fetcher = PageFetcher(rules, self.client, self._robots, self._discovery, self.renderer, self._quota)
        self._lastmods: dict[int, str] = {}
        """By the hash of the URL, as in the frontier."""
        self._started = False
        self._fetched_starts: set[str] = set()
        """Start URLs and what they redirect to: a page that was fetched before may have queued one of them too."""
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
        return len(self._discovery.new) > 0 and self._may_request_new() and not self._stopping

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
        pages = self._known_pages.pages(self._may_have_changed)
        self._discovery.seed(pages, self._orphans if self.names_all else None)
        await self._drain()
        await self._readmit()
        await self._expand()
        await self._readmit()

    async def discover(self, transport: Transport) -> None:
        """Fetch new URLs, and those that they link to."""
        self.client.transport, self._discovery.current = transport, self._discovery.new
        if not self._started:
            await self._start()
            if not self._stopping:
                self._spawn(None, self._read_sitemaps())
        await self._drain()
        await self._expand()

    def finish(self) -> bool:
        """Record the URLs that were left over; return whether the crawl is complete (False after a stop)."""
        if not self._stopping:
            self._discovery.record_leftovers("quota" if self._quota.is_exhausted else "max_pages")
            self._discovery.save()
        if self.names_all:
            self._orphans.write(self._discovery.reach.orphans())
        return not self._stopping

    @property
    def names_all(self) -> bool:
        """Whether nothing leads to what has no row by the end: all that names URLs was read, or is stored."""
        return not (
            self._stopping
            or self._quota.is_exhausted
            or self._fetcher.starts_failed
            or self._statistics.has_failed_problems
        )

    async def _expand(self) -> None:
        """Decide about all that is linked, until that leads to nothing more."""
        while not self._stopping and self._error is None and self._discovery.expand():
            await self._drain()

    async def _readmit(self) -> None:
        """Ask for stored pages beyond max_pages while other pages give their places up."""
        while not self._stopping and self._discovery.readmit(self._room.free):
            await self._drain()

    async def _start(self) -> None:
        self._started = True
        previous = PreviousCrawl(self._journal)
        for row in previous.rows():
            self._discovery.new.mark_seen(row.key)
        await self._fetch_start_urls(previous)
        self._resume(previous)

    # -- the loop

    async def _drain(self) -> None:
        try:
            while self._error is None:
                await self._start_fetches()
                if not self._active:
                    with contextlib.suppress(CrawlStopped):
                        await self.throttles.flush()
                    return
                await self._wake.wait()
                self._wake.clear()
            raise self._error
        except BaseException:
            self.cancel()
            await asyncio.gather(*self._active, return_exceptions=True)
            raise

    async def _start_fetches(self) -> None:
        for taken in count(1):
            if self._stopping or self._error is not None or not self._may_start():
                return
            if (next_request := self._discovery.take()) is None:
                return
            self._begin(*next_request)
            if taken % _TURN == 0:
                await asyncio.sleep(0)

    def _begin(self, host: str, request: CrawlRequest) -> None:
        """Start to fetch a URL, unless no request is needed to know what becomes of it or there is no room for it."""
        if request.url in self._fetched_starts:
            self._discovery.current.release(host)
            return
        known = request.known or self._known_pages.get(request.url)
        may_skip, may_wait = self._may_skip(known), self._may_wait(request, known)
        settled = self._fetcher.settle(request, known, may_skip=may_skip, may_wait=may_wait)
        needs_room = known is None or not known.sha256
        if isinstance(settled, Row):
            self._record(request, FetchResult(settled), self._past_lastmod(request.url))
            self._discovery.current.release(host)
        elif needs_room and not self._room.is_free and not (known is not None and known.waits):
            self._discovery.put_off(host, request)
        else:
            is_settled = settled is Verdict.REQUEST
            self._spawn(host, self._fetch(request, known, is_settled=is_settled), needs_room=needs_room)

    def _may_start(self) -> bool:
        if self._quota.is_exhausted or len(self._active) >= TOTAL_CONCURRENCY:
            return False
        return self._discovery.current is self._discovery.known_urls or self._room.is_free

    def _may_request_new(self) -> bool:
        return self._room.is_free and not self._quota.is_exhausted

    def _spawn(
        self, host: str | None, work: Coroutine[Any, Any, object], *, needs_room: bool = False
    ) -> asyncio.Task[Any]:
        if needs_room:
            self._room.enter()
        task: asyncio.Task[Any] = asyncio.create_task(work)
        self._active.add(task)
        task.add_done_callback(lambda done: self._on_done(host, done, needs_room=needs_room))
        return task

    def _on_done(self, host: str | None, task: asyncio.Task[Any], *, needs_room: bool) -> None:
        self._active.discard(task)
        if needs_room:
            self._room.leave()
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
        while queue and not self._stopping and (self._room.is_free or self._known_pages.has_page(queue[0].url)):
            request = queue.popleft()
            self._discovery.new.mark_seen(request.url)
            self._fetched_starts.add(request.url)
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
        task = self._spawn(None, self._fetch(request, self._known_pages.get(request.url)))
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
                self._count(row)
        for request in previous.retries():
            self._discovery.enqueue(request)
        for row in previous.rows():
            is_redirect = row.outcome == "redirected"
            if is_redirect and row.redirect_to:
                self._discovery.consider([row.redirect_to], row.depth)
            self._discovery.consider(row.links or (), row.depth if is_redirect else row.depth + 1)
        for row in previous.fetched_pages():
            if (page := self._fetcher.parse(row)) is not None:
                self._discovery.follow(CrawlRequest(row.key, row.depth), row, page, is_resumed=True)

    async def _read_sitemaps(self) -> None:
        note, origins = self._statistics.note_problem, self._discovery.scope.origins
        files = SitemapLoader(self.client, self._robots, self._rules, self._hints, note, origins)
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

    async def _fetch(self, request: CrawlRequest, known: KnownPage | None, *, is_settled: bool = False) -> Row:
        # Taken before the request: the response may be older than what the sitemap says by then.
        lastmod = self._past_lastmod(request.url)
        if is_settled:
            result = await self._fetcher.request(request, known)
        else:
            may_skip, may_wait = self._may_skip(known), self._may_wait(request, known)
            result = await self._fetcher.fetch(request, known, may_skip=may_skip, may_wait=may_wait)
        return self._record(request, result, lastmod)

    def _may_skip(self, known: KnownPage | None) -> bool:
        return self._rules.trust_lastmod and known is not None and not self._may_have_changed(known)

    def _may_wait(self, request: CrawlRequest, known: KnownPage | None) -> bool:
        return not request.is_start and (known is None or not self._has_new_lastmod(known))

    def _record(self, request: CrawlRequest, result: FetchResult, lastmod: str | None) -> Row:
        row = result.row
        row.lastmod = lastmod
        if result.page is not None or row.outcome == "fetched":
            row.links = result.page.urls if result.page is not None else ()
        self._follow(request, result)  # before the row is written: it says there whether the page says anything new
        self._statistics.record(row)
        self._count(row)
        if row.outcome == "redirected" and row.redirect_to and not request.is_start:
            self._discovery.consider_redirect(request, row.redirect_to)
        return row

    def _count(self, row: Row) -> None:
        """Note whether a row takes a place among max_pages, and where it leads to."""
        self._room.count(row, was_stored=self._known_pages.has_page(row.key))
        graph = self._discovery.reach.graph
        if row.outcome == "redirected" and row.redirect_to and row.attempts:
            graph.replace(row.key, [row.redirect_to, *(row.links or ())], is_redirect=True)
        elif row.links is not None:
            graph.replace(row.key, row.links, is_news=row.is_news)
        elif outcomes.leads_nowhere(row.outcome, row.reason):
            graph.remove(row.key)

    def _follow(self, request: CrawlRequest, result: FetchResult) -> None:
        if result.page is None or result.row.outcome == "redirected":
            self._discovery.end(request, result.row)
            others = (url for url in (result.row.links or ()) if url != result.row.redirect_to)
            self._discovery.consider(others, request.depth)  # as near as the target: the graph has one distance for all
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
