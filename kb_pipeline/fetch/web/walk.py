"""Walks a site: asks for the pages it knows, then visits what is new, and records the end of each.

The pages of an earlier refresh come first and apart, over a transport that is good at many small answers. They
are conditional requests without a parser: only a page whose hash differs is parsed for links. What is new, from those
links and from the sitemaps, waits in the frontier until then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

from kb_pipeline.fetch.web import pages
from kb_pipeline.fetch.web.client import Answer, Get, NoAnswer, PoliteClient, Transport
from kb_pipeline.fetch.web.clocks import Exchange, HostClocks, Stopped
from kb_pipeline.fetch.web.frontier import Frontier, Visit
from kb_pipeline.fetch.web.journal import Row
from kb_pipeline.fetch.web.known import KnownPage, KnownPages
from kb_pipeline.fetch.web.ledger import Ledger
from kb_pipeline.fetch.web.links import HTML_TYPES, find_links, media_type
from kb_pipeline.fetch.web.resume import Past
from kb_pipeline.fetch.web.robots_files import RobotsCopies, RobotsFiles
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.fetch.web.scope import PathFilter, Scope
from kb_pipeline.fetch.web.sitemap_files import SitemapFiles
from kb_pipeline.fetch.web.sitemaps import is_past
from kb_pipeline.fetch.web.urls import canonical_url, hostname_of
from kb_pipeline.model import document_id

TOTAL_CONCURRENCY = 64
MAX_LEFTOVER_ROWS = 10_000
_SEED_BATCH = 1000
_QUEUE_FLOOR = 100_000
_MAX_LASTMOD_CHARS = 64


class Walk:
    """One crawl of one source, from its start URLs to the last row: revalidate, discover if needed, finish.

    Clocks, robots rules and counts are the walk's own, so they go on when the transport changes.
    """

    def __init__(self, rules: CrawlRules, journal: Path, ledger: Ledger, known: KnownPages, exchange: Exchange) -> None:
        self._rules, self._journal, self._ledger, self._known = rules, journal, ledger, known
        self._clocks = HostClocks(rules.delay_s, rules.concurrency, exchange)
        self.client = PoliteClient(_no_transport, self._clocks, rules)
        copies = RobotsCopies(journal.with_suffix(".robots"))
        self._robots = RobotsFiles(self.client, self._clocks, rules.user_agent, copies)
        self._scope = Scope(rules)
        self._paths = PathFilter(rules.include, rules.exclude)
        self._erased = frozenset(rules.erased)
        per_host = 2 if rules.delay_s else rules.concurrency
        self._frontier = Frontier(_QUEUE_FLOOR + 20 * rules.max_pages, per_host)
        self._met = Frontier(_QUEUE_FLOOR, per_host)
        """Visits of keys that an earlier refresh has met."""
        self._turn = self._frontier
        """Whose visits are being made."""
        self._seeds: Iterator[KnownPage] = iter(())
        self._lastmods: dict[int, str] = {}
        """By the hash of the URL, as in the frontier."""
        self._begun = False
        self._too_deep: dict[str, int] = {}
        self._active: set[asyncio.Task[Any]] = set()
        self._starts_failed = False
        self._stopping = False
        self._wake = asyncio.Event()
        self._error: BaseException | None = None

    @property
    def queued(self) -> int:
        """URLs waiting or under way."""
        return len(self._frontier) + len(self._met) + len(self._active)

    @property
    def has_discoveries(self) -> bool:
        """Whether something new waits to be visited."""
        return len(self._frontier) > 0 and self._has_room() and not self._stopping

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
        """Visit the start URLs, read the sitemaps, then ask for every page of an earlier refresh."""
        self.client.transport, self._turn = transport, self._met
        await self._begin()
        if not self._stopping:
            # Before the pages: what the sitemaps say decides which of them are asked for first, or at all.
            self._spawn(None, self._read_sitemaps())
        await self._drain()
        self._seeds = self._known.pages(self._may_have_changed)
        await self._drain()

    async def discover(self, transport: Transport) -> None:
        """Visit what is new, and what that leads to."""
        self.client.transport, self._turn = transport, self._frontier
        if not self._begun:
            await self._begin()
            if not self._stopping:
                self._spawn(None, self._read_sitemaps())
        await self._drain()

    def finish(self) -> bool:
        """Give what was left out its rows; whether everything came to its end (False after a stop)."""
        if not self._stopping:
            self._record_leftovers()
        return not self._stopping

    async def _begin(self) -> None:
        self._begun = True
        past = Past(self._journal)
        for row in past.rows():
            self._frontier.mark_seen(row.key)
        await self._visit_starts(past)
        self._take_up(past)

    # -- the loop

    async def _drain(self) -> None:
        while self._error is None:
            self._begin_visits()
            if not self._active:
                with contextlib.suppress(Stopped):
                    await self._clocks.settle()
                return
            await self._wake.wait()
            self._wake.clear()
        self.abandon()
        await asyncio.gather(*self._active, return_exceptions=True)
        raise self._error

    def _begin_visits(self) -> None:
        while not self._stopping and self._has_room():
            if len(self._met) < _SEED_BATCH:
                self._feed_seeds()
            taken = self._turn.take()
            if taken is None:
                return
            self._spawn(taken[0], self._visit(taken[1]))

    def _has_room(self) -> bool:
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
            self._turn.release(host)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Stopped):
            self._error = self._error or error
        self._wake.set()

    # -- where URLs come from

    async def _visit_starts(self, past: Past) -> None:
        """Visit the start URLs before all else: where they redirect to decides the scope."""
        queue = deque(Visit(url, 0, is_start=True) for url in dict.fromkeys(self._start_urls()))
        known_starts = {visit.url for visit in queue}
        while queue and not self._stopping and self._ledger.kept < self._rules.max_pages:
            visit = queue.popleft()
            self._frontier.mark_seen(visit.url)
            row = past.start_row(visit.url) or await self._visit_alone(visit)
            if row is None:
                return
            # Only an answer tells how far the scope reaches; pages of an earlier refresh depend on it.
            self._starts_failed |= row.outcome in ("failed", "rejected") and row.reason != "excluded"
            target = row.redirect_to if row.outcome == "redirected" else None
            if target is not None:
                self._scope.admit(target)
            if target is not None and target not in known_starts:
                known_starts.add(target)
                queue.append(Visit(target, 0, (*visit.chain, visit.url), is_start=True))
        for visit in queue:
            self._enter(visit)

    async def _visit_alone(self, visit: Visit) -> Row | None:
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
                self._ledger.record(pages.refused(Visit(written, 0), "invalid_url"))
                self._starts_failed = True

    def _take_up(self, past: Past) -> None:
        """Take over what an earlier, killed crawl has in the journal."""
        for row in past.rows():
            if not past.was_replaced(row.key):
                self._ledger.count(row)
        for visit in past.visits():
            self._put(visit)
        for row in past.rows():
            if row.outcome == "redirected" and row.redirect_to:
                self._discover([row.redirect_to], row.depth)
        for row in past.fetched_pages():
            self._follow_links(row)

    def _feed_seeds(self) -> None:
        for page in islice(self._seeds, _SEED_BATCH):
            if self._frontier.mark_seen(page.key):
                self._met.put(hostname_of(page.key), Visit(page.key, page.depth, known=page))

    async def _read_sitemaps(self) -> None:
        files = SitemapFiles(self.client, self._robots, self._rules, self._ledger.warn)
        spelled: dict[str, str] = {}
        async for url, lastmod in files.pages():
            if lastmod and len(lastmod) <= _MAX_LASTMOD_CHARS:
                self._lastmods[hash(url)] = spelled.setdefault(lastmod, lastmod)
            self._discover([url], min(1, self._rules.max_depth))
            self._wake.set()

    def _may_have_changed(self, page: KnownPage) -> bool:
        """Whether the sitemaps leave it open; they never prove a change, nor an end."""
        return page.lastmod is None or self._lastmods.get(hash(page.key)) != page.lastmod

    def _discover(self, urls: Iterable[str], depth: int, chain: tuple[str, ...] = ()) -> None:
        for url in urls:
            if self._frontier.has_seen(url):
                continue
            if not self._scope.covers(url):
                self._ledger.count_outside(url)
            elif self._known.has_page(url):
                continue  # asked for in its turn
            elif depth > self._rules.max_depth:
                self._set_aside(url, depth)
            elif self._frontier.is_full:
                self._ledger.count_unrecorded(url)
            else:
                self._enter(Visit(url, depth, chain))

    def _set_aside(self, url: str, depth: int) -> None:
        # Not final: a page still in flight may link to it from nearer.
        if len(self._too_deep) < _QUEUE_FLOOR:
            self._too_deep.setdefault(url, depth)
        elif url not in self._too_deep:
            self._ledger.count_unrecorded(url)

    def _enter(self, visit: Visit) -> None:
        self._frontier.mark_seen(visit.url)
        self._too_deep.pop(visit.url, None)
        if self._paths.is_included(visit.url):
            self._put(visit)
        else:
            self._ledger.record(pages.refused(visit, "excluded"))

    def _put(self, visit: Visit) -> None:
        is_its_turn = self._turn is self._met and self._known.has(visit.url)
        (self._met if is_its_turn else self._frontier).put(hostname_of(visit.url), visit)

    # -- one visit

    async def _visit(self, visit: Visit) -> Row:
        known = visit.known or self._known.get(visit.url)
        # Taken before the request: what the sitemap learns meanwhile is not what the answer shows.
        lastmod = self._settled_lastmod(visit.url)
        row = await self._refusal(visit)
        if row is None and known is not None and self._may_skip(known):
            row = pages.skipped(visit, known)
        row = row or await self._fetch(visit, known)
        row.lastmod = lastmod
        if row.outcome == "fetched" and visit.is_start and not self._paths.is_included(visit.url):
            # The include globs leave the start page out, yet its links are how the crawl begins.
            self._follow_links(row)
            row = pages.refused(visit, "excluded", "start URL, fetched for its links only", row.attempts)
        elif row.outcome == "fetched":
            self._follow_links(row)
        self._ledger.record(row)
        if row.outcome == "redirected" and row.redirect_to and not visit.is_start:
            self._discover([row.redirect_to], visit.depth, (*visit.chain, visit.url))
        return row

    def _settled_lastmod(self, url: str) -> str | None:
        lastmod = self._lastmods.get(hash(url))
        return lastmod if lastmod and is_past(lastmod, datetime.now(UTC)) else None

    def _may_skip(self, known: KnownPage) -> bool:
        return self._rules.trust_lastmod and not self._may_have_changed(known)

    def _is_erased(self, url: str) -> bool:
        return bool(self._erased) and document_id(self._rules.source, url) in self._erased

    async def _refusal(self, visit: Visit) -> Row | None:
        if self._is_erased(visit.url):
            return pages.refused(visit, "erased")
        if not self._scope.covers(visit.url):
            return pages.refused(visit, "start_failed" if self._starts_failed else "out_of_scope")
        if self._paths.is_excluded(visit.url) or not (visit.is_start or self._paths.is_included(visit.url)):
            return pages.refused(visit, "excluded")
        if visit.depth > self._rules.max_depth:
            return pages.refused(visit, "too_deep")
        refusal = await self._robots.refusal(visit.url)
        return pages.refused(visit, refusal.reason, refusal.message) if refusal else None

    async def _fetch(self, visit: Visit, known: KnownPage | None) -> Row:
        request = pages.page_request(visit, known)
        try:
            answer = await self.client.get(request)
            if known is not None and answer.status in pages.GONE:
                # A deletion needs proof: ask once more before believing it.
                answer = await self.client.get(request)
        except NoAnswer as failure:
            return pages.unanswered(visit, failure)
        if answer.status in pages.REDIRECTS:
            return self._redirect(visit, answer)
        return pages.answered(visit, answer, known)

    def _redirect(self, visit: Visit, answer: Answer) -> Row:
        target, why = pages.redirect_target(answer)
        if target is None:
            return pages.refused(visit, "invalid_url", why, answer.attempts)
        if target in (*visit.chain, visit.url) or len(visit.chain) >= self._rules.max_redirects:
            return pages.redirected(visit, answer, target, "redirect_loop")
        if not visit.is_start and not self._scope.covers(target):
            return pages.redirected(visit, answer, target, "redirect_out_of_scope")
        return pages.redirected(visit, answer, target)

    def _follow_links(self, row: Row) -> None:
        if media_type(row.content_type or "text/html") not in HTML_TYPES or not pages.links_may_be_followed(row):
            return
        self._discover(find_links(row.body or b"", row.content_type or "", row.url).urls, row.depth + 1)

    # -- the end

    def _record_leftovers(self) -> None:
        """Give what was discovered but not visited its row; beyond a bound, its count."""
        for written, visit in enumerate(chain(self._met.take_all(), self._frontier.take_all())):
            if written < MAX_LEFTOVER_ROWS or self._known.has(visit.url):
                self._ledger.record(pages.refused(visit, "max_pages"))
            else:
                self._ledger.count_unrecorded(visit.url)
        for url, depth in self._too_deep.items():
            self._ledger.record(pages.refused(Visit(url, depth), "too_deep"))
        for page in self._seeds:
            if self._frontier.mark_seen(page.key):
                self._ledger.record(pages.refused(Visit(page.key, page.depth), "max_pages"))


async def _no_transport(get: Get) -> Answer:
    raise RuntimeError(f"no transport yet for {get.url}")
