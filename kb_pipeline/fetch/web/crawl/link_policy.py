"""Decides about every URL that a crawl discovers: fetch it, and in which order, or skip it for a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from kb_pipeline.fetch.web.crawl import outcomes
from kb_pipeline.fetch.web.crawl.frontier import CrawlRequest, Frontier
from kb_pipeline.fetch.web.crawl.journal import Row
from kb_pipeline.fetch.web.crawl.known_pages import KnownPage, KnownPages
from kb_pipeline.fetch.web.crawl.scope import PathFilter, Scope
from kb_pipeline.fetch.web.crawl.statistics import Statistics
from kb_pipeline.fetch.web.crawl.traps import NoveltyFilter, UrlTrapFilter
from kb_pipeline.fetch.web.parse.html_links import ParsedPage
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.urls import hostname_of

MAX_LEFTOVER_ROWS = 10_000
_SEED_BATCH = 1000
_QUEUE_FLOOR = 100_000


class Discovery:
    """The frontiers of one crawl: new URLs, and URLs known from an earlier refresh."""

    def __init__(self, rules: CrawlRules, known: KnownPages, statistics: Statistics) -> None:
        self._rules, self._known_pages, self._statistics = rules, known, statistics
        self.scope = Scope(rules)
        self.paths = PathFilter(rules.include, rules.exclude)
        per_host = 2 if rules.delay_s else rules.concurrency
        self.new = Frontier(_QUEUE_FLOOR + 20 * rules.max_pages, per_host)
        self.known_urls = Frontier(_QUEUE_FLOOR, per_host, by_depth=False)
        self.current = self.new
        """The frontier that requests are taken from now."""
        self._seeds: Iterator[KnownPage] = iter(())
        self._traps, self._novelty = UrlTrapFilter(rules.limits), NoveltyFilter()
        self._too_deep: dict[str, int] = {}
        self._refused = 0
        self._kept: Counter[str] = Counter()
        self._repetitive: Counter[str] = Counter()
        """By host: fetched pages that are not repetitive, and requests for URLs that only repetitive pages link to."""

    def __len__(self) -> int:
        return len(self.new) + len(self.known_urls)

    def take(self) -> tuple[str, CrawlRequest] | None:
        """Return the next request with its host, which the caller releases when the request has ended."""
        if len(self.known_urls) < _SEED_BATCH:
            self._enqueue_seeds()
        return self.current.take()

    def seed(self, known: Iterator[KnownPage]) -> None:
        """Queue these pages too, a batch at a time."""
        self._seeds = known

    def add(self, request: CrawlRequest) -> None:
        """Queue a URL for the first time, or record the row that says why not."""
        self.new.mark_seen(request.url)
        self._too_deep.pop(request.url, None)
        if self.paths.is_included(request.url):
            self.enqueue(request)
        else:
            self._statistics.record(outcomes.refused(request, "excluded"))

    def enqueue(self, request: CrawlRequest) -> None:
        """Queue a request whose URL is marked as seen already."""
        is_current = self.current is self.known_urls and self._known_pages.has(request.url)
        (self.known_urls if is_current else self.new).enqueue(hostname_of(request.url), request)

    def follow(self, request: CrawlRequest, row: Row, page: ParsedPage) -> None:
        """Consider the links of a fetched page."""
        host = hostname_of(request.url)
        self._kept[host] += not request.is_repetitive
        if page.over_limit:
            message = f"{page.over_limit} links beyond {self._rules.limits.links_per_page} are not followed"
            self._statistics.note_problem(request.url, "too_many_links", message)
        if all(self._is_decided(url) for url in page.urls):
            return  # a page without new links need not enter the novelty filter
        is_novel = self._novelty.is_novel(row.url, page.text, page.urls)
        self.consider(page.urls, row.depth + 1, is_repetitive=not is_novel)

    def consider(
        self,
        urls: Iterable[str],
        depth: int,
        chain: tuple[str, ...] = (),
        *,
        is_repetitive: bool = False,
        from_sitemap: bool = False,
    ) -> None:
        """Decide about URLs that a page, a redirect or (`from_sitemap`) a sitemap leads to."""
        for url in urls:
            if self.new.has_seen(url):
                if not is_repetitive and self.new.is_waiting_last(url):
                    self.new.promote(hostname_of(url), CrawlRequest(url, depth, chain))
            elif not self.scope.covers(url):
                self._statistics.count_outside(url)
            elif self._known_pages.has_page(url):
                continue  # revalidated as a known page
            elif depth > self._rules.max_depth:
                self._defer_too_deep(url, depth)
            elif self.new.is_full:
                self._statistics.count_unrecorded(url)
            elif not from_sitemap and self.paths.is_included(url) and (reason := self._traps.refusal(url)):
                self.new.mark_seen(url)
                self._record_skipped(CrawlRequest(url, depth, chain), reason)
            else:
                self.add(CrawlRequest(url, depth, chain, is_repetitive=is_repetitive))

    def is_over_repetitive_limit(self, request: CrawlRequest) -> bool:
        """Return whether the host's limit on URLs that only repetitive pages link to is reached; call once a request.

        As many of them as of the host's other fetched pages are always allowed: a site may have many pages that are
        copies of others, in another language say.
        """
        if not request.is_repetitive:
            return False
        host = hostname_of(request.url)
        self._repetitive[host] += 1
        return self._repetitive[host] > max(self._rules.limits.repetitive_pages, self._kept[host])

    def record_leftovers(self, reason: str) -> None:
        """Record every URL that was discovered but not fetched, with the reason; beyond a limit, only count it."""
        for request in chain(self.known_urls.take_all(), self.new.take_all()):
            self._record_skipped(request, reason)
        for url, depth in self._too_deep.items():
            self._statistics.record(outcomes.refused(CrawlRequest(url, depth), "too_deep"))
        for page in self._seeds:
            if self.new.mark_seen(page.key):
                self._statistics.record(outcomes.refused(CrawlRequest(page.key, page.depth), reason))

    def _record_skipped(self, request: CrawlRequest, reason: str) -> None:
        if self._refused < MAX_LEFTOVER_ROWS or self._known_pages.has(request.url):
            self._refused += 1
            self._statistics.record(outcomes.refused(request, reason))
        else:
            self._statistics.count_unrecorded(request.url)

    def _is_decided(self, url: str) -> bool:
        if self.new.has_seen(url) and not self.new.is_waiting_last(url):
            return True
        return self._known_pages.has_page(url) or not self.scope.covers(url)

    def _enqueue_seeds(self) -> None:
        for page in islice(self._seeds, _SEED_BATCH):
            if self.new.mark_seen(page.key):
                self.known_urls.enqueue(hostname_of(page.key), CrawlRequest(page.key, page.depth, known=page))

    def _defer_too_deep(self, url: str, depth: int) -> None:
        # Not final: a page still in flight may link to it from a lower depth.
        if len(self._too_deep) < _QUEUE_FLOOR:
            self._too_deep.setdefault(url, depth)
        elif url not in self._too_deep:
            self._statistics.count_unrecorded(url)
