"""Decides over every URL that a crawl meets: visit it, and in which order, or leave it out for a reason."""

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
from kb_pipeline.fetch.web.crawl.traps import Memory, Shapes
from kb_pipeline.fetch.web.parse.html_links import ParsedPage
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.urls import hostname_of

MAX_LEFTOVER_ROWS = 10_000
_SEED_BATCH = 1000
_QUEUE_FLOOR = 100_000


class Discovery:
    """The frontiers of one crawl: what is new, and what an earlier refresh has met."""

    def __init__(self, rules: CrawlRules, known: KnownPages, ledger: Statistics) -> None:
        self._rules, self._known, self._ledger = rules, known, ledger
        self.scope = Scope(rules)
        self.paths = PathFilter(rules.include, rules.exclude)
        per_host = 2 if rules.delay_s else rules.concurrency
        self.new = Frontier(_QUEUE_FLOOR + 20 * rules.max_pages, per_host)
        self.met = Frontier(_QUEUE_FLOOR, per_host, by_depth=False)
        self.turn = self.new
        """Whose visits are being made."""
        self._seeds: Iterator[KnownPage] = iter(())
        self._shapes, self._memory = Shapes(rules.limits), Memory()
        self._too_deep: dict[str, int] = {}
        self._refused = 0
        self._kept: Counter[str] = Counter()
        self._repetitive: Counter[str] = Counter()
        """By host: pages that were fetched, and visits of what only repetitive pages lead to."""

    def __len__(self) -> int:
        return len(self.new) + len(self.met)

    def take(self) -> tuple[str, CrawlRequest] | None:
        """The next visit, with its host to be released when it is over."""
        if len(self.met) < _SEED_BATCH:
            self._feed_seeds()
        return self.turn.take()

    def seed(self, known: Iterator[KnownPage]) -> None:
        """CrawlRequest these too, as there is room for them."""
        self._seeds = known

    def enter(self, visit: CrawlRequest) -> None:
        """Queue a URL for the first time, or give it the row that says why not."""
        self.new.mark_seen(visit.url)
        self._too_deep.pop(visit.url, None)
        if self.paths.is_included(visit.url):
            self.put(visit)
        else:
            self._ledger.record(outcomes.refused(visit, "excluded"))

    def put(self, visit: CrawlRequest) -> None:
        """Queue a visit whose URL is marked already."""
        is_its_turn = self.turn is self.met and self._known.has(visit.url)
        (self.met if is_its_turn else self.new).put(hostname_of(visit.url), visit)

    def follow(self, visit: CrawlRequest, row: Row, facts: ParsedPage) -> None:
        """Meet the links of a fetched page."""
        host = hostname_of(visit.url)
        self._kept[host] += not visit.is_repetitive
        if facts.left_out:
            message = f"{facts.left_out} links beyond {self._rules.limits.links_per_page} are not followed"
            self._ledger.note_problem(visit.url, "too_many_links", message)
        if all(self._is_settled(url) for url in facts.urls):
            return  # a page without anything new to visit is not worth remembering
        is_news = self._memory.is_news(row.url, facts.text, facts.urls)
        self.meet(facts.urls, row.depth + 1, is_repetitive=not is_news)

    def meet(
        self,
        urls: Iterable[str],
        depth: int,
        chain: tuple[str, ...] = (),
        *,
        is_repetitive: bool = False,
        is_named: bool = False,
    ) -> None:
        """Decide over URLs that a page, a redirect or (`is_named`) a sitemap leads to."""
        for url in urls:
            if self.new.has_seen(url):
                if not is_repetitive and self.new.is_waiting_last(url):
                    self.new.promote(hostname_of(url), CrawlRequest(url, depth, chain))
            elif not self.scope.covers(url):
                self._ledger.count_outside(url)
            elif self._known.has_page(url):
                continue  # asked for in its turn
            elif depth > self._rules.max_depth:
                self._set_aside(url, depth)
            elif self.new.is_full:
                self._ledger.count_unrecorded(url)
            elif not is_named and self.paths.is_included(url) and (reason := self._shapes.refusal(url)):
                self.new.mark_seen(url)
                self._leave_out(CrawlRequest(url, depth, chain), reason)
            else:
                self.enter(CrawlRequest(url, depth, chain, is_repetitive=is_repetitive))

    def is_repetitive_enough(self, visit: CrawlRequest) -> bool:
        """Whether enough of what only repetitive pages lead to has been visited; asked once a visit.

        As much as everything else that was fetched of the host is always allowed: pages that are copies of others, in
        another language say, may be many.
        """
        if not visit.is_repetitive:
            return False
        host = hostname_of(visit.url)
        self._repetitive[host] += 1
        return self._repetitive[host] > max(self._rules.limits.repetitive_pages, self._kept[host])

    def record_leftovers(self, reason: str) -> None:
        """Give what was met but not visited its row, which says why; beyond a bound, its count."""
        for visit in chain(self.met.take_all(), self.new.take_all()):
            self._leave_out(visit, reason)
        for url, depth in self._too_deep.items():
            self._ledger.record(outcomes.refused(CrawlRequest(url, depth), "too_deep"))
        for page in self._seeds:
            if self.new.mark_seen(page.key):
                self._ledger.record(outcomes.refused(CrawlRequest(page.key, page.depth), reason))

    def _leave_out(self, visit: CrawlRequest, reason: str) -> None:
        if self._refused < MAX_LEFTOVER_ROWS or self._known.has(visit.url):
            self._refused += 1
            self._ledger.record(outcomes.refused(visit, reason))
        else:
            self._ledger.count_unrecorded(visit.url)

    def _is_settled(self, url: str) -> bool:
        waits_last = self.new.is_waiting_last(url)
        return (self.new.has_seen(url) and not waits_last) or self._known.has_page(url) or not self.scope.covers(url)

    def _feed_seeds(self) -> None:
        for page in islice(self._seeds, _SEED_BATCH):
            if self.new.mark_seen(page.key):
                self.met.put(hostname_of(page.key), CrawlRequest(page.key, page.depth, known=page))

    def _set_aside(self, url: str, depth: int) -> None:
        # Not final: a page still in flight may link to it from nearer.
        if len(self._too_deep) < _QUEUE_FLOOR:
            self._too_deep.setdefault(url, depth)
        elif url not in self._too_deep:
            self._ledger.count_unrecorded(url)
