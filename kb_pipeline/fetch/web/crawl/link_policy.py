"""Decides about every URL that a crawl discovers: fetch it, and in which order, or skip it for a reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from kb_pipeline.fetch.web.crawl import outcomes
from kb_pipeline.fetch.web.crawl.frontier import CrawlRequest, Frontier, ParkedUrls
from kb_pipeline.fetch.web.crawl.journal import Row
from kb_pipeline.fetch.web.crawl.known_pages import KnownPage, KnownPages
from kb_pipeline.fetch.web.crawl.novelty import Judgement, NoveltyFilter
from kb_pipeline.fetch.web.crawl.orphans import Orphans
from kb_pipeline.fetch.web.crawl.reach import Reach
from kb_pipeline.fetch.web.crawl.scope import PathFilter, Scope
from kb_pipeline.fetch.web.crawl.sessions import SESSIONS_FILE, Sessions
from kb_pipeline.fetch.web.crawl.statistics import Statistics
from kb_pipeline.fetch.web.crawl.traps import TRAPS_FILE, TrapFilter
from kb_pipeline.fetch.web.crawl.url_patterns import patterns_of
from kb_pipeline.fetch.web.link_graph import LinkGraph
from kb_pipeline.fetch.web.parse.html_links import ParsedPage
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.urls import hostname_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_LEFTOVER_ROWS = 10_000
_SEED_BATCH = 1000
_QUEUE_FLOOR = 100_000
_MAX_PARKED = 100_000
_GROUPS_A_TURN = 20
"""How many patterns that wait for a larger part of the site are looked at when that part has credit again."""


class Discovery:
    """The frontiers of one crawl: new URLs, and URLs known from an earlier refresh."""

    def __init__(
        self,
        rules: CrawlRules,
        known: KnownPages,
        statistics: Statistics,
        graph: LinkGraph | None = None,
        notes: Path | None = None,
    ) -> None:
        self._rules, self._known_pages, self._statistics = rules, known, statistics
        self.scope, self.paths = Scope(rules), PathFilter(rules.include, rules.exclude)
        self.reach = Reach(rules, known, graph, self.scope, self.paths)
        per_host = 2 if rules.delay_s else rules.concurrency
        self.new = Frontier(_QUEUE_FLOOR + 20 * rules.max_pages, per_host)
        self.known_urls = Frontier(_QUEUE_FLOOR, per_host, by_depth=False)
        self.current = self.new
        """The frontier that requests are taken from now."""
        self._seeds: Iterator[KnownPage] = iter(())
        self._novelty = NoveltyFilter(notes / "novelty.bin" if notes else None)
        self._traps = TrapFilter(rules.limits, self._novelty.is_first, notes / TRAPS_FILE if notes else None)
        self._sessions = Sessions(notes / SESSIONS_FILE if notes else None)
        self._parked, self._chance = ParkedUrls(_MAX_PARKED), Random(1)  # noqa: S311 - no secret
        self._refused = 0

    def __len__(self) -> int:
        return len(self.new) + len(self.known_urls)

    def take(self) -> tuple[str, CrawlRequest] | None:
        """Return the next request with its host, which the caller releases when the request has ended."""
        if len(self.known_urls) < _SEED_BATCH:
            self._enqueue_seeds()
        while (taken := self.current.take() or self._take_probe()) is not None:
            host, request = taken
            pattern = self._blocked_by(request)
            if pattern is None and not self._is_respelled(request):
                if request.known is None:  # else an earlier crawl noted it
                    self._sessions.visit(request.url)
                return taken
            self.current.release(host)
            if pattern is not None:
                self._park(pattern, request)
        return None

    def seed(self, known: Iterator[KnownPage], orphans: Orphans | None = None) -> None:
        """Queue these pages too, a batch at a time; those out of reach by the links as stored wait for `expand`.

        Args:
            known: pages to ask for.
            orphans: see Reach.begin.
        """
        self.reach.begin(orphans)
        self._seeds = known

    def expand(self) -> int:
        """Consider what all links lead to, unchanged pages' too, at the least depth that this crawl has found.

        Returns:
            How many URLs were decided that had not been before.
        """
        distances = self.reach.new_distances()
        if distances is None:
            return 0
        before = self.new.seen_count
        for url in self.reach.graph.stored_urls(self._without_bytes(distances.reached)):
            self.consider([url], distances.of(url), is_repetitive=not distances.is_linked_by_news(url))
        for url, depth in self.reach.rescued(distances):
            self._rescue(url, depth)
        return self.new.seen_count - before

    def readmit(self, places: int) -> int:
        """Queue stored pages beyond max_pages for which there are places after all; return how many."""
        back = self.reach.readmit(places)
        for url, depth in back:
            self.new.mark_seen(url)
            self.enqueue(CrawlRequest(url, depth))
        return len(back)

    def _without_bytes(self, hashes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the hashes of what is no stored page: those are asked for whatever leads to them."""
        import numpy as np

        return hashes[~np.isin(hashes, self._known_pages.hashes_with_bytes)]

    def add(self, request: CrawlRequest) -> None:
        """Queue a URL for the first time, or record the row that says why not."""
        self.new.mark_seen(request.url)
        self.reach.release(request.url)
        if not self.paths.is_included(request.url):
            self._statistics.record(outcomes.refused(request, "excluded"))
        elif (pattern := self._waits_for(request)) is not None:
            self._park(pattern, request)  # at once: a refresh that finds nothing but such URLs has nothing to discover
        else:
            self.enqueue(request)

    def enqueue(self, request: CrawlRequest) -> None:
        """Queue a request whose URL is marked as seen already."""
        # Keys of an earlier refresh need not wait for the transport that new pages need.
        is_current = self.current is self.known_urls and self._known_pages.has(request.url)
        (self.known_urls if is_current else self.new).enqueue(hostname_of(request.url), request)

    def put_off(self, host: str, request: CrawlRequest) -> None:
        """Queue a request that was taken for when there is room for new pages."""
        self.current.release(host)
        self._release(self._traps.settle([request.url], None, None, earns=False))
        self.new.enqueue(host, request)

    def follow(self, request: CrawlRequest, row: Row, page: ParsedPage, *, is_resumed: bool = False) -> None:
        """Consider the links of a fetched page; note in its row whether it says anything new.

        Args:
            request: the visit, or one of an interrupted crawl that is gone on with (`is_resumed`).
            row: what became of it.
            page: what was read.
            is_resumed: whether the row is in the journal already.
        """
        if page.over_limit:
            message = f"{page.over_limit} links beyond {self._rules.limits.links_per_page} are not followed"
            self._statistics.note_problem(request.url, "too_many_links", message)
        if is_resumed and not self._is_free(request):
            self._traps.charge(request.url)
        if row.outcome == "rejected" and self._known_pages.has(request.url) and not request.is_start:
            # Its text is not kept, and was judged when it was first met; only what it leads to matters.
            self.consider(page.urls, row.depth + 1)
            return
        judgement = self._novelty.judge(request.url, patterns_of(request.url).own, page.text, page.urls)
        if row.is_news is None:
            row.is_news = judgement.is_news
        self._sessions.learn(request.url, judgement.signatures)
        self._settle(request, None if self._is_stub(request, judgement, page) else judgement)
        is_repetitive = not (row.is_news or request.is_start)
        # A page that earned nothing by itself earns by what it leads to: a month of a calendar with an event in it.
        via = None if judgement.earns or request.is_start else request.url
        self.consider(page.urls, row.depth + 1, is_repetitive=is_repetitive, via=via)

    def end(self, request: CrawlRequest, row: Row) -> None:
        """Note the end of a visit that gave no page to read."""
        if row.outcome == "redirected" and row.redirect_to and self._is_met(row.redirect_to):
            self._traps.forget((request.url, *request.chain))  # it leads to nothing new, and keeps what it cost
        elif row.outcome != "redirected":
            if request.chain or not self._is_free(request):  # else it cost nothing
                self._settle(request, None)
            if row.reason == "not_found" and self._known_pages.has_page(request.url):
                self._release(self._traps.give_back(request.url))

    def save(self) -> None:
        """Write to disk what the next crawl needs to know of traps."""
        self._novelty.save()
        self._sessions.save()
        self._traps.save()

    def consider(
        self,
        urls: Iterable[str],
        depth: int,
        chain: tuple[str, ...] = (),
        *,
        is_repetitive: bool = False,
        from_sitemap: bool = False,
        via: str | None = None,
    ) -> None:
        """Decide about URLs that a page, a redirect or (`from_sitemap`) a sitemap leads to.

        Args:
            urls: the canonical URLs.
            depth: how far from a start URL they are on this way.
            chain: the URLs that redirected there.
            is_repetitive: whether the page that links there says nothing new.
            from_sitemap: whether a sitemap names them, which is believed whatever URLs like them led to.
            via: the page that links there, if its patterns earn by what it leads to.
        """
        for written in urls:
            url = (
                written
                if chain or from_sitemap or self._known_pages.has_page(written)
                else self._sessions.spelling(written)
            )
            if from_sitemap:
                self.reach.add_origin(url, depth)
            if self.new.has_seen(url):
                self._meet_again(CrawlRequest(url, depth, chain, is_exempt=from_sitemap), is_repetitive=is_repetitive)
            elif not self.scope.covers(url):
                self._count_outside((url,))
            elif self._known_pages.has_page(url):
                if self.reach.link(url, depth):
                    self._rescue(url, depth)  # else revalidated as a known page
            elif depth > self._rules.max_depth:
                if not self.reach.hold_too_deep(url, depth):
                    self._statistics.count_unrecorded(url)
            elif self.new.is_full:
                self._statistics.count_unrecorded(url)
            elif not from_sitemap and self.paths.is_included(url) and (reason := self._traps.refusal(url)):
                self.new.mark_seen(url)
                self._record_skipped(CrawlRequest(url, depth, chain), reason)
            else:
                request = CrawlRequest(
                    url, depth, chain, is_repetitive=is_repetitive, is_exempt=from_sitemap, via=via
                )  # fmt: skip
                self.add(request)

    def consider_redirect(self, request: CrawlRequest, target: str) -> None:
        """Decide about the URL that another one redirects to."""
        self.consider(
            [target],
            request.depth,
            (*request.chain, request.url),
            is_repetitive=request.is_repetitive,
            from_sitemap=request.is_exempt,
            via=request.via,
        )

    def record_leftovers(self, reason: str) -> None:
        """Record every URL that was discovered but not fetched, with the reason; beyond a limit, only count it."""
        for request in chain(self.known_urls.take_all(), self.new.take_all()):
            self._record_skipped(request, reason)
        for pattern, request in self._parked.pop_all():
            if self._is_respelled(request):
                continue
            self._record_skipped(request, self._traps.reason(request.url, pattern))
        for url, depth, why in self.reach.held():
            self._statistics.record(outcomes.refused(CrawlRequest(url, depth), why))
        for page in self._seeds:
            if self.new.mark_seen(page.key):
                self._statistics.record(outcomes.refused(CrawlRequest(page.key, page.depth), reason))

    def _record_skipped(self, request: CrawlRequest, reason: str) -> None:
        known = self._known_pages.get(request.url)
        if known is not None and known.sha256 and reason == "max_pages":
            self._statistics.record(outcomes.skipped(request, known))  # it has its place among max_pages
        elif known is not None or self._refused < MAX_LEFTOVER_ROWS:
            self._refused += 1
            self._statistics.record(outcomes.left_over(request, known, reason))
        else:
            self._statistics.count_unrecorded(request.url)

    def _count_outside(self, urls: Iterable[str]) -> None:
        for url in urls:
            if not self.scope.covers(url):
                self._statistics.count_outside(url, self.scope.is_sibling)

    def _meet_again(self, request: CrawlRequest, *, is_repetitive: bool) -> None:
        if request.url in self._parked:
            self._parked.come_nearer(request)
            if request.is_exempt:
                self.enqueue(replace(self._parked.pop(request.url), is_exempt=True))
        elif not is_repetitive and self.new.is_waiting_last(request.url):
            self.new.promote(hostname_of(request.url), request)

    def _is_stub(self, request: CrawlRequest, judgement: Judgement, page: ParsedPage) -> bool:
        """Whether a page without news leads nowhere, and is none of too many: it is no part of a trap."""
        if judgement.is_news or any(map(self._is_open, page.urls)):
            return False
        return self._traps.take_leaf(request.url, is_far=request.is_repetitive)

    def _is_open(self, url: str) -> bool:
        return self.scope.covers(url) and not self._is_met(url)

    def _is_met(self, url: str) -> bool:
        return self.new.has_seen(url) or self._known_pages.has_page(url)

    def _is_respelled(self, request: CrawlRequest) -> bool:
        """Whether a URL that nobody vouches for is another spelling of one that was visited."""
        return not self._is_free(request) and not request.chain and self._sessions.spelling(request.url) != request.url

    # -- traps

    def _is_free(self, request: CrawlRequest) -> bool:
        """Whether a request is made whatever URLs like it led to; so is one for what an earlier refresh asked for."""
        if request.is_start or request.is_exempt or request.known is not None:
            return True
        known = self._known_pages.get(request.url)
        return known is not None and (known.sha256 is not None or known.was_asked)

    def _waits_for(self, request: CrawlRequest) -> str | None:
        return None if self._is_free(request) else self._traps.blocked_by(request.url)

    def _blocked_by(self, request: CrawlRequest) -> str | None:
        """Return the pattern without credit that a request must wait for, or take its credit and return None."""
        if self._is_free(request):
            return None
        if (pattern := self._traps.blocked_by(request.url)) is None:
            self._traps.charge(request.url)
        return pattern

    def _park(self, pattern: str, request: CrawlRequest) -> None:
        if self._parked.is_full:
            self._statistics.count_unrecorded(request.url)
        else:
            self._parked.park(pattern, patterns_of(request.url).own, request)

    def _settle(self, request: CrawlRequest, judgement: Judgement | None) -> None:
        is_known = request.known is not None or self._known_pages.has_page(request.url)
        urls = (request.url, *request.chain)
        self._release(self._traps.settle(urls, judgement, request.via, earns=not is_known))

    def _release(self, patterns: Iterable[str], groups: int | None = _GROUPS_A_TURN) -> None:
        """Queue parked URLs whose patterns have credit again."""
        for pattern in patterns:
            visits = self._traps.visits_left(pattern)
            for request in self._parked.pop_allowed(pattern, visits, self._may_visit, groups):
                self.enqueue(request)

    def _may_visit(self, url: str) -> bool:
        return self._traps.blocked_by(url) is None

    def _take_probe(self) -> tuple[str, CrawlRequest] | None:
        """Return a parked URL to look whether it leads to news after all, when nothing else is left."""
        if self.current is not self.new or not self.new.is_idle:
            return None
        self._release(self._parked.patterns(), groups=None)
        if (taken := self.new.take()) is not None:
            return taken
        for request in self._parked.candidates(self._chance):
            if self._traps.take_probe(request.url):
                probe = replace(self._parked.pop(request.url), is_exempt=True)
                self.new.enqueue(hostname_of(probe.url), probe)
                return self.new.take()
        return None

    def _enqueue_seeds(self) -> None:
        for page in islice(self._seeds, _SEED_BATCH):
            depth = None if self.new.has_seen(page.key) else self.reach.depth_within(page)
            if depth is not None:
                self.new.mark_seen(page.key)
                self.known_urls.enqueue(hostname_of(page.key), CrawlRequest(page.key, depth, known=page))

    def _rescue(self, url: str, depth: int) -> None:
        """Queue a URL that turned out to be nearer than it was found at."""
        if self._known_pages.has_page(url):
            self.reach.release(url)
            self.new.mark_seen(url)
            self.enqueue(CrawlRequest(url, depth))
        else:
            self.consider([url], depth)
