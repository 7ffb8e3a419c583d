"""Keeps a crawl out of crawler traps: calendars, session ids, combinations of filters, copies of one page.

A URL is judged by what URLs like it led to, never by the page that lists it. Each pattern of URLs (see url_patterns)
has credit. A visit takes one from it; a page with news gives it back and adds to it, so that a pattern which goes on
giving news never stops, and an answer that leads nowhere, such as a 404, gives it back too. A page without news gives
nothing back, unless it leads to a page that has some. A copy of a page gives it back to a pattern that did not have
that page yet: copies in another language, or of another version. As long as a pattern is not proven, a visit also takes
from the larger parts of its site, so that many patterns without news share what they may cost. A URL without credit is
parked. When nothing else is left, a few parked URLs are visited all the same, to see whether they lead to news.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from kb_pipeline.fetch.web.crawl.novelty import Judgement, News
from kb_pipeline.fetch.web.crawl.url_patterns import UrlPatterns, patterns_of
from kb_pipeline.fetch.web.rules import CrawlLimits
from kb_pipeline.model import digest
from kb_pipeline.store.durable_files import write_durably
from kb_pipeline.urls import path_of

_START, _SHARED_START, _REPEATING_START = 12, 24, 4
"""Visits that a pattern may cost before it gave any news: one of its own, a part of the site, repeated folders."""
_SPENT_ALL = 10
"""Visits for nothing with which a pattern that is not proven may take nothing more of what others share with it."""
_PATTERN_SHARE = 0.12
"""Of the visits that a host may cost, where an operator allows more than usual."""
_MOST = 24
"""What a pattern can save up; what it may cost after its last news."""
_EARNED = {News.NEW: 8.0, News.SOME: 2.0}
_PROVEN = 3
"""Pages with news that make a pattern live on its own credit."""
_HOST_SHARE = 0.1
"""What a host's credit grows by with each page with news."""
_PROBES, _PROBE_SHARE = 4, 0.04
"""Parked URLs that are visited when nothing else is left, and how many more for each page with news."""
_LEAVES, _LEAF_SHARE = 80, 0.05
"""Pages without news that lead nowhere and cost nothing: forms, pictures, stubs of a reference. Of those that only
other pages without news lead to there may be fewer."""
_FAR_LEAVES, _FAR_LEAF_SHARE = 40, 0.02
_COPIES, _COPIES_PER_NEWS = 100, 5
"""Pages of a host that may be copies of others at no cost, and how many more for each page with news."""


class _Credit(msgspec.Struct, array_like=True):
    """What one pattern may still cost."""

    left: float
    news: float = 0.0
    """Pages with news that it gave or led to."""


class _Host(msgspec.Struct, array_like=True):
    """What is counted of a host as a whole."""

    news: float = 0.0
    copies: int = 0
    probes: int = 0
    leaves: int = 0
    far_leaves: int = 0


class _Kept(msgspec.Struct):
    """What the next crawl goes on from."""

    limits: str
    credits: dict[str, _Credit]
    hosts: dict[str, _Host]


TRAPS_FILE = "traps.json"
"""Within the notes of a source: the credits, from one crawl to the next."""
IsFirst = Callable[[str, Judgement], bool]
"""Whether a page has had no copy at a place; see NoveltyFilter.is_first."""


class TrapFilter:
    """The credit of every pattern of URLs, from one crawl to the next."""

    def __init__(self, limits: CrawlLimits, is_first: IsFirst, path: Path | None = None) -> None:
        self._limits, self._is_first, self._path = limits, is_first, path
        self._charged: dict[str, tuple[str, ...]] = {}
        """What the visits under way took from, by URL; also URLs that redirected to one."""
        self._led: set[str] = set()
        """Pages without news that led to some: what they cost their host was given back."""
        kept = self._load()
        self._credits, self._hosts = kept.credits, kept.hosts
        self._is_changed = False

    def refusal(self, url: str) -> str | None:
        """Return the reason why a URL is never visited, whatever it may lead to."""
        path = path_of(url).partition("?")[0]
        return "path_too_long" if path.count("/") > self._limits.path_segments else None

    def blocked_by(self, url: str) -> str | None:
        """Return the pattern whose credit is used up, so that the URL must wait; None if it may be visited."""
        patterns = patterns_of(url)
        if not self._credits:
            return None
        for pattern in patterns.specific:
            if not self._has_credit(pattern):
                return pattern
        if self._is_proven(patterns):
            return None
        # The more a pattern has cost for nothing, the more must be left to others of what they share.
        spent = max(self._spent(patterns, pattern) for pattern in patterns.specific)
        least = (spent * self._start(patterns, pattern) / _SPENT_ALL for pattern in patterns.shared)
        return next(
            (name for name, left in zip(patterns.shared, least, strict=True) if not self._has_credit(name, left)), None
        )

    def reason(self, url: str, pattern: str) -> str:
        """Return the reason code of a URL that was still parked for a pattern at the end."""
        patterns = patterns_of(url)
        if patterns.is_repeating:
            return "path_repetition"
        if pattern == patterns.own and self._start(patterns, pattern) < _START:
            return "query_limit" if "?" in pattern else "directory_limit"
        return "repetitive"

    def charge(self, url: str) -> None:
        """Take one visit from the patterns of a URL that is visited now."""
        patterns = patterns_of(url)
        charged = patterns.specific if self._is_proven(patterns) else (*patterns.specific, *patterns.shared)
        for pattern in charged:
            self._credit(patterns, pattern).left -= 1
        self._charged[url] = charged

    def settle(self, urls: Iterable[str], judgement: Judgement | None, via: str | None, *, earns: bool) -> set[str]:
        """Give back what a visit deserves; return the patterns whose credit grew.

        Args:
            urls: the URL of the page, and those that redirected to it.
            judgement: what its page says; None where there is no page.
            via: the page that led to it, if its patterns earn by that.
            earns: whether its news speaks for its patterns: not that of a page which an earlier crawl knew.
        """
        grown: set[str] = set()
        for url in urls:
            charged, patterns = self._charged.pop(url, ()), patterns_of(url)
            places = self._places(patterns, judgement)
            for pattern in self._deserving(patterns, charged, judgement, places):
                self._grow(patterns, pattern, 1, grown)
            if earns and judgement is not None and judgement.is_news:
                self._earn(patterns, judgement.news, grown)
                if via is not None:
                    self._earn_for_leading(via, grown)
        return grown

    def give_back(self, url: str, visits: int = 1) -> set[str]:
        """Let a pattern have other pages in the place of one that is gone; return what grew."""
        grown: set[str] = set()
        patterns = patterns_of(url)
        for pattern in patterns.specific:
            self._grow(patterns, pattern, visits, grown, most=float("inf"))
        return grown

    def forget(self, urls: Iterable[str]) -> None:
        """Keep what visits cost that led to nothing new."""
        for url in urls:
            self._charged.pop(url, None)

    def visits_left(self, pattern: str) -> int:
        """Return how many visits a pattern has credit for."""
        credit = self._credits.get(pattern)
        return _MOST if credit is None else max(0, math.ceil(credit.left))

    def take_probe(self, url: str) -> bool:
        """Take one of the visits of a host that look whether parked URLs lead to news; return whether one is left."""
        counts = self._hosts.setdefault(patterns_of(url).shared[-1], _Host())
        if counts.probes >= _PROBES + _PROBE_SHARE * counts.news:
            return False
        counts.probes += 1
        self._is_changed = True
        return True

    def take_leaf(self, url: str, *, is_far: bool) -> bool:
        """Take one of the visits of a host to pages that say and lead to nothing; return whether one is left.

        Args:
            url: the page.
            is_far: whether only pages without news lead to it.
        """
        counts = self._hosts.setdefault(patterns_of(url).shared[-1], _Host())
        if "?" in url:
            return False
        self._is_changed = True
        if not is_far:
            counts.leaves += 1
            return counts.leaves <= _LEAVES + _LEAF_SHARE * counts.news
        counts.far_leaves += 1
        return counts.far_leaves <= _FAR_LEAVES + _FAR_LEAF_SHARE * counts.news

    def save(self) -> None:
        """Write the credits to disk for the next crawl, if they changed."""
        if self._path is None or not self._is_changed:
            return
        # A last segment that one page has (its own name) need not be kept: there may be as many as pages.
        credits = {name: credit for name, credit in self._credits.items() if " " not in name or credit.left < _START}
        kept = _Kept(self._fingerprint(), credits, self._hosts)
        write_durably(self._path, msgspec.json.encode(kept))
        self._is_changed = False

    # -- credit

    def _load(self) -> _Kept:
        empty = _Kept(self._fingerprint(), {}, {})
        try:
            kept = msgspec.json.decode(self._path.read_bytes() if self._path is not None else b"", type=_Kept)
        except (OSError, msgspec.DecodeError):
            return empty  # the first crawl, or a torn file
        return kept if kept.limits == empty.limits else empty

    def _fingerprint(self) -> str:
        limits = self._limits
        return digest("traps-1", str((limits.per_directory, limits.per_query_pattern, limits.repetitive_pages)))

    def _has_credit(self, pattern: str, least: float = 0) -> bool:
        credit = self._credits.get(pattern)
        return credit is None or credit.left > least

    def _spent(self, patterns: UrlPatterns, pattern: str) -> float:
        credit = self._credits.get(pattern)
        return 0 if credit is None else max(0.0, self._start(patterns, pattern) - credit.left)

    def _is_proven(self, patterns: UrlPatterns) -> bool:
        """Whether a URL's own patterns gave news a few times, or more than they cost so far."""
        for pattern in patterns.specific:
            credit = self._credits.get(pattern)
            if credit is not None and (credit.news >= _PROVEN or credit.left > self._start(patterns, pattern)):
                return True
        return False

    def _credit(self, patterns: UrlPatterns, pattern: str) -> _Credit:
        credit = self._credits.get(pattern)
        if credit is None:
            credit = self._credits[pattern] = _Credit(self._start(patterns, pattern))
        self._is_changed = True
        return credit

    def _start(self, patterns: UrlPatterns, pattern: str) -> float:
        limits = self._limits
        if pattern == patterns.shared[-1]:
            return limits.repetitive_pages
        if pattern in patterns.shared:
            return min(max(_SHARED_START, _PATTERN_SHARE * 2 * limits.repetitive_pages), 2 * limits.repetitive_pages)
        if patterns.is_repeating:
            return _REPEATING_START
        most = max(_START, _PATTERN_SHARE * limits.repetitive_pages)
        return min(most, limits.per_query_pattern if "?" in pattern else limits.per_directory)

    def _places(self, patterns: UrlPatterns, judgement: Judgement | None) -> list[str]:
        """Return the patterns, without the host, in which no page has been the same before.

        With parameters there are none: another order of a list or another view of a page is no copy of a site's part.
        """
        if judgement is None or "?" in patterns.own:
            return []
        return [name for name in (patterns.own, *patterns.shared[:-1]) if self._is_first(name, judgement)]

    def _deserving(
        self, patterns: UrlPatterns, charged: tuple[str, ...], judgement: Judgement | None, places: list[str]
    ) -> Iterator[str]:
        """Yield the patterns that get their visit back."""
        if judgement is None or judgement.news in _EARNED:
            yield from charged
        elif judgement.news is News.SENTENCE:
            # Filters can be put into sentences without end: parameters must be proven by more to go on for that.
            yield from (name for name in charged if name in patterns.specific or "?" not in patterns.own)
        elif judgement.news is News.COPY and charged and places and self._may_copy(patterns):
            # Each pattern may have each page once. The host has the original anyway, and the name of a page says
            # nothing of where its copies end: these two follow the others.
            is_first = len(places) == len(patterns.shared)
            for name in charged:
                if name in places or name == patterns.across or (is_first and name == patterns.shared[-1]):
                    yield name

    def _may_copy(self, patterns: UrlPatterns) -> bool:
        counts = self._hosts.setdefault(patterns.shared[-1], _Host())
        counts.copies += 1
        return counts.copies <= _COPIES + _COPIES_PER_NEWS * counts.news

    def _earn(self, patterns: UrlPatterns, news: News, grown: set[str]) -> None:
        if news not in _EARNED:
            return
        earned = _EARNED[news]
        for pattern in (*patterns.specific, *patterns.shared[:-1]):
            self._grow(patterns, pattern, earned, grown)
            self._credits[pattern].news += 1 if news is News.NEW else 0.5
        host = patterns.shared[-1]
        self._grow(patterns, host, _HOST_SHARE, grown, most=float("inf"))
        self._hosts.setdefault(host, _Host()).news += 1

    def _earn_for_leading(self, via: str, grown: set[str]) -> None:
        patterns = patterns_of(via)
        for pattern in (*patterns.specific, *patterns.shared[:-1]):
            self._grow(patterns, pattern, 1, grown)
            self._credits[pattern].news += 1
        if via not in self._led:
            self._led.add(via)
            self._grow(patterns, patterns.shared[-1], 1, grown, most=float("inf"))

    def _grow(self, patterns: UrlPatterns, pattern: str, by: float, grown: set[str], most: float | None = None) -> None:
        credit = self._credit(patterns, pattern)
        ceiling = max(_MOST, self._start(patterns, pattern)) if most is None else most
        credit.left = max(credit.left, min(credit.left + by, ceiling))
        grown.add(pattern)
