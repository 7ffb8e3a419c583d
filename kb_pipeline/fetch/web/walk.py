"""Walks a site: visits what the frontier holds, records each end, discovers what the pages link to."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from kb_pipeline.fetch.web import pages
from kb_pipeline.fetch.web.client import Answer, NoAnswer, PoliteClient, Transport
from kb_pipeline.fetch.web.clocks import HostClocks, Stopped
from kb_pipeline.fetch.web.frontier import Frontier, Visit
from kb_pipeline.fetch.web.journal import Row
from kb_pipeline.fetch.web.known import KnownPage, KnownPages
from kb_pipeline.fetch.web.ledger import Ledger
from kb_pipeline.fetch.web.links import HTML_TYPES, find_links, media_type
from kb_pipeline.fetch.web.resume import Past
from kb_pipeline.fetch.web.robots_files import RobotsFiles
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.fetch.web.scope import PathFilter, Scope
from kb_pipeline.fetch.web.sitemap_files import SitemapFiles
from kb_pipeline.fetch.web.urls import canonical_url, hostname_of

TOTAL_CONCURRENCY = 64
MAX_LEFTOVER_ROWS = 10_000
_SEED_BATCH = 1000
_QUEUE_FLOOR = 100_000


class Walk:
    """One crawl of one source, from its start URLs to the last row."""

    def __init__(self, rules: CrawlRules, transport: Transport, ledger: Ledger, known: KnownPages) -> None:
        self._rules, self._ledger, self._known = rules, ledger, known
        self._clocks = HostClocks(rules.delay_s, rules.concurrency)
        self.client = PoliteClient(transport, self._clocks, rules)
        self._robots = RobotsFiles(self.client, self._clocks, rules.user_agent)
        self._scope = Scope(rules)
        self._paths = PathFilter(rules.include, rules.exclude)
        self._frontier = Frontier(_QUEUE_FLOOR + 20 * rules.max_pages, 2 if rules.delay_s else rules.concurrency)
        self._seeds: Iterator[tuple[str, int]] = iter(())
        self._too_deep: dict[str, int] = {}
        self._active: set[asyncio.Task[Any]] = set()
        self._starts_failed = False
        self._stopping = False
        self._wake = asyncio.Event()
        self._error: BaseException | None = None

    @property
    def queued(self) -> int:
        """URLs waiting or under way."""
        return len(self._frontier) + len(self._active)

    def stop(self) -> None:
        """Begin nothing new; what is in flight comes to its end."""
        self._stopping = True
        self.client.stop()
        self._wake.set()

    def abandon(self) -> None:
        """Drop what is still in flight after a stop."""
        for task in self._active:
            task.cancel()

    async def run(self, journal: Path) -> bool:
        """Crawl; whether everything came to its end (False after a stop)."""
        past = Past(journal)
        for row in past.rows():
            self._frontier.mark_seen(row.key)
        await self._visit_starts(past)
        self._take_up(past)
        self._seeds = self._known.keys()
        if not self._stopping:
            self._spawn(None, self._read_sitemaps())
        await self._drain()
        if self._error is not None:
            raise self._error
        if not self._stopping:
            self._record_leftovers()
        return not self._stopping

    # -- the loop

    async def _drain(self) -> None:
        while self._error is None:
            self._begin_visits()
            if not self._active:
                return
            await self._wake.wait()
            self._wake.clear()
        self.abandon()
        await asyncio.gather(*self._active, return_exceptions=True)

    def _begin_visits(self) -> None:
        while not self._stopping and self._has_room():
            if len(self._frontier) < _SEED_BATCH:
                self._feed_seeds()
            taken = self._frontier.take()
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
            self._frontier.release(host)
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
                self._ledger.count(row.outcome, row.reason)
        for visit in past.visits():
            self._frontier.put(hostname_of(visit.url), visit)
        for row in past.rows():
            if row.outcome == "redirected" and row.redirect_to:
                self._discover([row.redirect_to], row.depth)
        for row in past.fetched_pages():
            self._follow_links(row)

    def _feed_seeds(self) -> None:
        for key, depth in islice(self._seeds, _SEED_BATCH):
            if self._frontier.mark_seen(key):
                self._frontier.put(hostname_of(key), Visit(key, depth))

    async def _read_sitemaps(self) -> None:
        files = SitemapFiles(self.client, self._robots, self._rules, self._ledger.warn)
        async for url in files.page_urls():
            self._discover([url], min(1, self._rules.max_depth))
            self._wake.set()

    def _discover(self, urls: Iterable[str], depth: int, chain: tuple[str, ...] = ()) -> None:
        for url in urls:
            if self._frontier.has_seen(url):
                continue
            if not self._scope.covers(url):
                self._ledger.count_outside(url)
            elif self._known.get(url) is not None:
                continue  # a seed of its own, in its turn
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
            self._frontier.put(hostname_of(visit.url), visit)
        else:
            self._ledger.record(pages.refused(visit, "excluded"))

    # -- one visit

    async def _visit(self, visit: Visit) -> Row:
        known = self._known.get(visit.url)
        row = await self._refusal(visit) or await self._fetch(visit, known)
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

    async def _refusal(self, visit: Visit) -> Row | None:
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
        self._frontier.release_all()
        written = 0
        while (taken := self._frontier.take()) is not None:
            if written < MAX_LEFTOVER_ROWS or self._known.get(taken[1].url) is not None:
                self._ledger.record(pages.refused(taken[1], "max_pages"))
                written += 1
            else:
                self._ledger.count_unrecorded(taken[1].url)
            self._frontier.release(taken[0])
        for url, depth in self._too_deep.items():
            self._ledger.record(pages.refused(Visit(url, depth), "too_deep"))
        for key, depth in self._seeds:
            if self._frontier.mark_seen(key):
                self._ledger.record(pages.refused(Visit(key, depth), "max_pages"))
