"""Walks a site: asks for the pages it knows, then visits what is new, and records the end of each.

The pages of an earlier refresh come first and apart, over a transport that is good at many small answers. They
are conditional requests without a parser: only a page whose hash differs is parsed for links. What is new, from those
links and from the sitemaps, waits in the frontier until then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kb_pipeline.fetch.web.crawl import outcomes
from kb_pipeline.fetch.web.crawl.fetch_page import PageFetcher, Visited
from kb_pipeline.fetch.web.crawl.frontier import CrawlRequest
from kb_pipeline.fetch.web.crawl.journal import Row
from kb_pipeline.fetch.web.crawl.known_pages import KnownPage, KnownPages
from kb_pipeline.fetch.web.crawl.link_policy import Discovery
from kb_pipeline.fetch.web.crawl.page_quota import Allowance, unlimited
from kb_pipeline.fetch.web.crawl.resume import PreviousCrawl
from kb_pipeline.fetch.web.crawl.robots_cache import RobotsCopies, RobotsFiles
from kb_pipeline.fetch.web.crawl.sitemap_loader import SitemapFiles, SitemapNotes
from kb_pipeline.fetch.web.crawl.statistics import Statistics
from kb_pipeline.fetch.web.http.client import PoliteClient, Request, Response, Transport
from kb_pipeline.fetch.web.parse.sitemaps import is_past
from kb_pipeline.fetch.web.politeness.host_throttle import Exchange, HostClocks, Stopped
from kb_pipeline.fetch.web.rules import CrawlFiles, CrawlRules
from kb_pipeline.urls import canonical_url

if TYPE_CHECKING:
    from kb_pipeline.fetch.web.crawl.browser import Renderer

TOTAL_CONCURRENCY = 256
"""Visits under way; most of them wait for their host's turn, since a transport has far fewer connections."""
_MAX_LASTMOD_CHARS = 64


class Crawler:
    """One crawl of one source, from its start URLs to the last row: revalidate, discover if needed, finish.

    Clocks, robots rules and counts are the walk's own, so they go on when the transport changes.
    """

    def __init__(
        self,
        rules: CrawlRules,
        files: CrawlFiles,
        ledger: Statistics,
        known: KnownPages,
        exchange: Exchange,
        take_pages: Callable[[int], Awaitable[int | None]] = unlimited,
    ) -> None:
        self._rules, self._journal, self._ledger, self._known = rules, files.journal, ledger, known
        self.clocks = HostClocks(rules.delay_s, rules.concurrency, exchange)
        self.client = PoliteClient(_no_transport, self.clocks, rules)
        copies = RobotsCopies(files.notes)
        self._robots = RobotsFiles(self.client, self.clocks, rules.user_agent, copies)
        self._notes = SitemapNotes(files.notes / "sitemaps.json")
        self._discovery = Discovery(rules, known, ledger)
        self._allowance = Allowance(take_pages)
        self.renderer = _open_renderer(rules, self.client, self._robots)
        self._visitor = PageFetcher(rules, self.client, self._robots, self._discovery, self.renderer, self._allowance)
        self._lastmods: dict[int, str] = {}
        """By the hash of the URL, as in the frontier."""
        self._begun = False
        self._active: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._wake = asyncio.Event()
        self._error: BaseException | None = None

    @property
    def queued(self) -> int:
        """URLs waiting or under way."""
        return len(self._discovery) + len(self._active)

    @property
    def has_discoveries(self) -> bool:
        """Whether something new waits to be visited."""
        return len(self._discovery.new) > 0 and self._has_room() and not self._stopping

    def stop(self) -> None:
        """Begin nothing new; what is in flight comes to its end."""
        self._stopping = True
        self.client.stop()
        self._wake.set()

    def abandon(self) -> None:
        """Drop what is still in flight after a stop."""
        for task in self._active:
            task.cancel()

    async def revalidate(self, transport: Transport) -> None:
        """CrawlRequest the start URLs, read the sitemaps, then ask for every page of an earlier refresh."""
        self.client.transport, self._discovery.turn = transport, self._discovery.met
        await self._begin()
        if not self._stopping:
            # Before the pages: what the sitemaps say decides which of them are asked for first, or at all.
            self._spawn(None, self._read_sitemaps())
        await self._drain()
        self._discovery.seed(self._known.pages(self._may_have_changed))
        await self._drain()

    async def discover(self, transport: Transport) -> None:
        """CrawlRequest what is new, and what that leads to."""
        self.client.transport, self._discovery.turn = transport, self._discovery.new
        if not self._begun:
            await self._begin()
            if not self._stopping:
                self._spawn(None, self._read_sitemaps())
        await self._drain()

    def finish(self) -> bool:
        """Give what was left out its rows; whether everything came to its end (False after a stop)."""
        if not self._stopping:
            self._discovery.record_leftovers("quota" if self._allowance.is_used_up else "max_pages")
        return not self._stopping

    async def _begin(self) -> None:
        self._begun = True
        past = PreviousCrawl(self._journal)
        for row in past.rows():
            self._discovery.new.mark_seen(row.key)
        await self._visit_starts(past)
        self._take_up(past)

    # -- the loop

    async def _drain(self) -> None:
        while self._error is None:
            self._begin_visits()
            if not self._active:
                with contextlib.suppress(Stopped):
                    await self.clocks.settle()
                return
            await self._wake.wait()
            self._wake.clear()
        self.abandon()
        await asyncio.gather(*self._active, return_exceptions=True)
        raise self._error

    def _begin_visits(self) -> None:
        while not self._stopping and self._has_room():
            taken = self._discovery.take()
            if taken is None:
                return
            self._spawn(taken[0], self._visit(taken[1]))

    def _has_room(self) -> bool:
        if self._allowance.is_used_up:
            return False
        # Every visit under way may keep a page, so max_pages is never overshot.
        return len(self._active) < TOTAL_CONCURRENCY and self._ledger.kept + len(self._active) < self._rules.max_pages

    def _spawn(self, host: str | None, work: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.create_task(work)
        self._active.add(task)
        task.add_done_callback(lambda done: self._ended(host, done))
        return task

    def _ended(self, host: str | None, task: asyncio.Task[Any]) -> None:
        self._active.discard(task)
        if host is not None:
            self._discovery.turn.release(host)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Stopped):
            self._error = self._error or error
        self._wake.set()

    # -- where URLs come from

    async def _visit_starts(self, past: PreviousCrawl) -> None:
        """CrawlRequest the start URLs before all else: where they redirect to decides the scope."""
        queue = deque(CrawlRequest(url, 0, is_start=True) for url in dict.fromkeys(self._start_urls()))
        known_starts = {visit.url for visit in queue}
        while queue and not self._stopping and self._ledger.kept < self._rules.max_pages:
            visit = queue.popleft()
            self._discovery.new.mark_seen(visit.url)
            row = past.start_row(visit.url) or await self._visit_alone(visit)
            if row is None:
                return
            # Only an answer tells how far the scope reaches; pages of an earlier refresh depend on it.
            self._visitor.starts_failed |= row.outcome in ("failed", "rejected") and row.reason not in _SETTLED
            target = row.redirect_to if row.outcome == "redirected" else None
            if target is not None:
                self._discovery.scope.admit(target)
            if target is not None and target not in known_starts:
                known_starts.add(target)
                queue.append(CrawlRequest(target, 0, (*visit.chain, visit.url), is_start=True))
        for visit in queue:
            self._discovery.enter(visit)

    async def _visit_alone(self, visit: CrawlRequest) -> Row | None:
        """The row of a visit outside the loop, or None when the crawl was stopped meanwhile."""
        task = self._spawn(None, self._visit(visit))
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
                self._ledger.record(outcomes.refused(CrawlRequest(written, 0), "invalid_url"))
                self._visitor.starts_failed = True

    def _take_up(self, past: PreviousCrawl) -> None:
        """Take over what an earlier, killed crawl has in the journal."""
        for row in past.rows():
            if not past.was_replaced(row.key):
                self._ledger.count(row)
        for visit in past.visits():
            self._discovery.put(visit)
        for row in past.rows():
            if row.outcome == "redirected" and row.redirect_to:
                self._discovery.meet([row.redirect_to], row.depth)
            self._discovery.meet(row.links or (), row.depth + 1)
        for row in past.fetched_pages():
            if (facts := self._visitor.facts_of(row)) is not None:
                self._discovery.follow(CrawlRequest(row.key, row.depth), row, facts)

    async def _read_sitemaps(self) -> None:
        files = SitemapFiles(self.client, self._robots, self._rules, self._notes, self._ledger.note_problem)
        spelled: dict[str, str] = {}
        async for url, lastmod in files.pages():
            if lastmod and len(lastmod) <= _MAX_LASTMOD_CHARS:
                self._lastmods[hash(url)] = spelled.setdefault(lastmod, lastmod)
            self._discovery.meet([url], min(1, self._rules.max_depth), is_named=True)
            self._wake.set()

    def _may_have_changed(self, page: KnownPage) -> bool:
        """Whether the sitemaps leave it open; they never prove a change, nor an end."""
        return page.lastmod is None or self._lastmods.get(hash(page.key)) != page.lastmod

    def _has_new_lastmod(self, page: KnownPage) -> bool:
        lastmod = self._lastmods.get(hash(page.key))
        return lastmod is not None and page.lastmod is not None and lastmod != page.lastmod

    # -- one visit

    async def _visit(self, visit: CrawlRequest) -> Row:
        known = visit.known or self._known.get(visit.url)
        # Taken before the request: what the sitemap learns meanwhile is not what the answer shows.
        lastmod = self._settled_lastmod(visit.url)
        may_skip = self._rules.trust_lastmod and known is not None and not self._may_have_changed(known)
        may_wait = not visit.is_start and (known is None or not self._has_new_lastmod(known))
        visited = await self._visitor.visit(visit, known, may_skip=may_skip, may_wait=may_wait)
        row = visited.row
        row.lastmod = lastmod
        if visited.facts is not None and row.body is None:
            row.links = visited.facts.urls  # what a resumed crawl could not find again
        self._ledger.record(row)
        self._follow(visit, visited)
        if row.outcome == "redirected" and row.redirect_to and not visit.is_start:
            self._discovery.meet([row.redirect_to], visit.depth, (*visit.chain, visit.url))
        return row

    def _follow(self, visit: CrawlRequest, visited: Visited) -> None:
        if visited.facts is None:
            return
        if visit.is_start:
            self._notes.add(visited.facts.feeds)
        self._discovery.follow(visit, visited.row, visited.facts)

    def _settled_lastmod(self, url: str) -> str | None:
        lastmod = self._lastmods.get(hash(url))
        return lastmod if lastmod and is_past(lastmod, datetime.now(UTC)) else None


_SETTLED = frozenset({"excluded", "noindex"})
"""Reasons of a start URL that answered all the same."""


def _open_renderer(rules: CrawlRules, client: PoliteClient, robots: RobotsFiles) -> Renderer | None:
    if rules.render == "never":
        return None
    from kb_pipeline.fetch.web.crawl.browser import Renderer

    return Renderer(rules, client, robots)


async def _no_transport(get: Request) -> Response:
    raise RuntimeError(f"no transport yet for {get.url}")
