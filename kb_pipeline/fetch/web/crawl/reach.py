"""Tells how far every URL is from a start URL, and which stored pages the KB file leaves out of reach."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from kb_pipeline.fetch.web.crawl.known_pages import KnownPage, KnownPages
from kb_pipeline.fetch.web.crawl.orphans import Orphans
from kb_pipeline.fetch.web.crawl.scope import PathFilter, Scope
from kb_pipeline.fetch.web.link_graph import UNREACHED, Distances, LinkGraph
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.model import document_id
from kb_pipeline.urls import canonical_url

_MOST_TOO_DEEP = 100_000
"""URLs that are kept as too deep; of more, only stored pages are."""


class Reach:
    """The distances of one crawl, and the URLs that are held back because of them: a nearer link may turn up."""

    def __init__(
        self, rules: CrawlRules, known: KnownPages, graph: LinkGraph | None, scope: Scope, paths: PathFilter
    ) -> None:
        self._rules, self._known_pages, self._scope, self._paths = rules, known, scope, paths
        self.graph = graph or LinkGraph()
        self._starts = frozenset(url for url in map(canonical_url, rules.start_urls) if url)
        self._origins = {hash(url): 0 for url in self._starts}
        """Where the distances are counted from, by hash: start URLs at 0, pages of sitemaps one link away."""
        self._distances: Distances | None = None
        self._measured: tuple[int, int] | None = None
        """The numbers of changes to the graph and of origins when the distances were last measured, ..."""
        self._told: tuple[int, int] | None = None
        """... and when they were last handed out."""
        self._beyond: frozenset[str] = frozenset()
        """Stored pages of which max_pages others are nearer to the start URLs."""
        self._orphans: Orphans | None = None
        self._too_deep: dict[str, int] = {}
        self._unlinked: dict[str, int] = {}
        """Stored pages that the edited rules cut off."""
        self._surplus: dict[str, int] = {}
        """Stored pages that wait for a place among max_pages."""
        self._held_pages: set[str] = set()
        """Stored pages among all three."""

    def begin(self, orphans: Orphans | None) -> None:
        """Measure by the links as stored: those of a page may change in this crawl, but most do not.

        Args:
            orphans: what no link led to before; None where it cannot be told what leads to pages, since something that
                names them could not be read. Pages are then out of reach only if they are too deep.
        """
        self._orphans = orphans
        if orphans is not None and orphans.rules_changed:
            self._forget_uncovered_links()
        if self._rules.erased:
            self._forget_links_of_erased()
        self._measure()
        if self._known_pages.pages_with_bytes > self._rules.max_pages:
            self._beyond = self._beyond_max_pages()

    def add_origin(self, url: str, depth: int) -> None:
        """Count distances from this URL too."""
        self._origins.setdefault(hash(url), depth)

    def new_distances(self) -> Distances | None:
        """Return the distances by all links read so far; None if nothing changed since they were last returned."""
        if not (self.graph.has_stored or self._too_deep):
            return None
        distances = self._measure()
        if self._told == self._measured:
            return None
        self._told = self._measured
        return distances

    def _measure(self) -> Distances:
        state = (self.graph.changes, len(self._origins))
        if self._distances is None or self._measured != state:
            self._measured, self._distances = state, self.graph.distances(self._origins.items())
        return self._distances

    def depth_of(self, page: KnownPage) -> int:
        """Return the depth of a stored page, that of an earlier refresh where nothing leads there any more."""
        found = self._distances.of(page.key) if self._distances is not None else UNREACHED
        return page.depth if found == UNREACHED else found

    def orphans(self) -> Iterator[str]:
        """Yield the stored pages that no link leads to."""
        import numpy as np

        reached = self._distances.reached if self._distances is not None else ()
        if not np.isin(self._known_pages.hashes_with_bytes, reached).all():
            pages = self._known_pages.stored()
            yield from (page.key for page in pages if not self._is_reached(page.key))

    # -- what is held back

    def depth_within(self, page: KnownPage) -> int | None:
        """Return the depth of a page of an earlier refresh, None if it is out of reach by the links as stored.

        One with bytes is then held back; one without is met by a link later, or forgotten.
        """
        depth = self.depth_of(page)
        is_within = depth <= self._rules.max_depth
        if page.sha256 is None:
            return depth if is_within and self._is_reached(page.key) else None
        if self._is_cut_off(page.key):
            self._unlinked[page.key] = depth
        elif not is_within:
            self._too_deep[page.key] = depth
        elif page.key in self._beyond:
            self._surplus[page.key] = depth
        else:
            return depth
        self._held_pages.add(page.key)
        return None

    def held_pages(self) -> int:
        """Return how many stored pages are held back."""
        return len(self._held_pages)

    def readmit(self, places: int) -> list[tuple[str, int]]:
        """Hold back no longer as many pages as there are places among max_pages; return them, each with its depth.

        Others ended: the KB file or robots.txt forbids them now, or they are gone.
        """
        nearest = heapq.nsmallest(places, ((depth, url) for url, depth in self._surplus.items()))
        for _, url in nearest:
            del self._surplus[url]
            self._held_pages.discard(url)
        return [(url, depth) for depth, url in nearest]

    def hold_too_deep(self, url: str, depth: int) -> bool:
        """Hold a URL back that was found too deep; return False if there are too many to keep it."""
        # Not final: a page still in flight may link to it from a lower depth.
        if len(self._too_deep) < _MOST_TOO_DEEP or self._known_pages.has(url):
            self._too_deep.setdefault(url, depth)
        return url in self._too_deep

    def link(self, url: str, depth: int) -> bool:
        """Note that something leads to a URL at this depth; return whether it was held back, and is in reach now."""
        if self._unlinked.pop(url, None) is not None:
            self._too_deep[url] = depth
        return url in self._too_deep and depth <= self._rules.max_depth

    def release(self, url: str) -> None:
        """Hold a URL back no longer."""
        self._too_deep.pop(url, None)
        self._held_pages.discard(url)

    def rescued(self, distances: Distances) -> list[tuple[str, int]]:
        """Return what was held back and is in reach by these distances, each with its depth."""
        depths = [(url, distances.of(url)) for url in (*self._too_deep, *self._unlinked)]
        return [(url, depth) for url, depth in depths if depth != UNREACHED and self.link(url, depth)]

    def held(self) -> Iterator[tuple[str, int, str]]:
        """Yield what is still held back, each with its depth and the reason code."""
        reasons = ((self._too_deep, "too_deep"), (self._unlinked, "unlinked"), (self._surplus, "max_pages"))
        for urls, reason in reasons:
            yield from ((url, depth, reason) for url, depth in urls.items())

    def _is_cut_off(self, url: str) -> bool:
        """Whether the edited rules, not the site, took away every link to a stored page."""
        orphans = self._orphans
        if orphans is None or not orphans.rules_changed or not self._covers(url):
            return False
        return not self._is_reached(url) and not orphans.was_orphan(url)

    def _covers(self, url: str) -> bool:
        return self._scope.covers(url) and self._paths.is_included(url)

    def _is_reached(self, url: str) -> bool:
        return self._distances is not None and self._distances.of(url) != UNREACHED

    def _forget_uncovered_links(self) -> None:
        for url in self.graph.stored_pages():
            is_read = url in self._starts and not self._paths.is_excluded(url)  # for its links, whatever is included
            if not (self._covers(url) or is_read):
                self.graph.remove(url)

    def _forget_links_of_erased(self) -> None:
        erased = frozenset(self._rules.erased)
        for url in self.graph.stored_pages():
            if document_id(self._rules.source, url) in erased:
                self.graph.remove(url)

    def _beyond_max_pages(self) -> frozenset[str]:
        covered = (page for page in self._known_pages.stored() if self._covers(page.key))
        pages = ((self.depth_of(page), page.key) for page in covered)
        return frozenset(key for _, key in sorted(pages)[self._rules.max_pages :])
