"""Fetches the sitemaps and feeds of a source, and the sitemaps they name, within limits of depth and number."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kb_pipeline.fetch.web.crawl.robots_cache import RobotsCache
from kb_pipeline.fetch.web.http.client import FetchError, PoliteClient, Request
from kb_pipeline.fetch.web.parse.sitemaps import (
    MAX_BYTES,
    MAX_NESTING,
    SitemapEntry,
    TooManyEntries,
    UnreadableSitemap,
    read_sitemap,
)
from kb_pipeline.fetch.web.robots import RobotsPolicy
from kb_pipeline.fetch.web.rules import AUTO, OFF, CrawlRules
from kb_pipeline.urls import canonical_url, origin_of

MAX_FILES = 500
WELL_KNOWN = ("/sitemap.xml", "/sitemap_index.xml", "/sitemap-index.xml", "/sitemap.xml.gz")
"""Where sitemaps lie that robots.txt does not name. The first crawl tries one after the other; later ones request
only those that were found."""
_URLS_A_PAGE = 20
_MIN_URLS = 10_000
_MAX_HOPS = 5
_MAX_FEEDS = 10
_MAX_FEED_PAGES = 100
"""Pages of one feed that are read, the first one included."""
_MAX_FEED_BRANCHES = 2
"""A page of a feed may name a next page and an archive."""
_ABSENT = (404, 410)

NoteProblem = Callable[[str, str, str], None]
"""Called with the URL, a reason code and a message."""


@dataclass(slots=True)
class _Feed:
    """What the pages of one feed have named; a sitemap is a feed of one page."""

    urls: set[str] = field(default_factory=set)
    entries: set[int] = field(default_factory=set)
    """Hashes of its entries."""


@dataclass(slots=True)
class _File:
    """A sitemap, or a page of a feed, to be read."""

    url: str
    above: tuple[str, ...] = ()
    """The sitemaps that lead to it."""
    feed: _Feed = field(default_factory=_Feed)
    following: set[str] = field(default_factory=set)
    """Where it says that it goes on."""


class SitemapHints:
    """Where earlier crawls of a source found its sitemaps, and which feeds its start pages name; kept on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.places: list[str] | None = None
        """The well-known URLs that had a sitemap; None before the first crawl."""
        self.feeds: list[str] = []
        try:
            noted = json.loads(path.read_bytes())
            self.places, self.feeds = noted["places"], noted["feeds"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # the first crawl, or a torn file

    def add(self, feeds: Iterable[str]) -> None:
        """Add feeds that a start page names."""
        self.feeds = list(dict.fromkeys([*feeds, *self.feeds]))[:_MAX_FEEDS]

    def write(self) -> None:
        """Write the hints to disk for the next crawl."""
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"places": self.places or [], "feeds": self.feeds}))
        temporary.replace(self._path)


class SitemapLoader:
    """Loads the sitemaps of one crawl; address guard, robots.txt and throttles apply to their files as to pages.

    They are looked for at `origins`: those of the start URLs and of what these redirect to.
    """

    def __init__(
        self,
        client: PoliteClient,
        robots: RobotsCache,
        rules: CrawlRules,
        hints: SitemapHints,
        note: NoteProblem,
        origins: Iterable[str],
    ) -> None:
        self._client, self._robots, self._rules, self._hints, self._note_problem = client, robots, rules, hints, note
        self._origins = tuple(origins)
        self._left = max(_MIN_URLS, _URLS_A_PAGE * rules.max_pages)
        self._seen: set[str] = set()

    async def pages(self) -> AsyncIterator[tuple[str, str | None]]:
        """Yield canonical URL and lastmod of every page that a sitemap names; note a problem for unreadable files."""
        if self._rules.sitemap == OFF:
            return
        if self._rules.sitemap == AUTO:
            async for page in self._well_known_pages():
                yield page
            roots = [url async for url in self._named_by_robots()] + self._hints.feeds
        else:
            roots = [canonical_url(url) or url for url in self._named_in_rules()]
        async for page in self._pages_of(roots):
            yield page
        self._hints.write()

    def _named_in_rules(self) -> tuple[str, ...]:
        named = self._rules.sitemap
        return (named,) if isinstance(named, str) else named

    async def _named_by_robots(self) -> AsyncIterator[str]:
        for origin in self._origins:
            policy = await self._robots.policy(origin)
            for line in policy.sitemaps if isinstance(policy, RobotsPolicy) else ():
                if url := canonical_url(line, origin):
                    yield url

    async def _well_known_pages(self) -> AsyncIterator[tuple[str, str | None]]:
        """Yield the pages of sitemaps in well-known places, for origins whose robots.txt names none."""
        found = []
        for origin in self._origins:
            policy = await self._robots.policy(origin)
            if not isinstance(policy, RobotsPolicy) or policy.sitemaps:
                continue
            known = [url for url in self._hints.places or () if origin_of(url) == origin]
            untried = WELL_KNOWN if self._hints.places is None else WELL_KNOWN[:1]
            for url in known or [origin + path for path in untried]:
                async for page in self._pages_of([url]):
                    yield page
                    if url not in found:
                        found.append(url)
                if url in found:
                    break
        self._hints.places = found or self._hints.places

    async def _pages_of(self, roots: Iterable[str]) -> AsyncIterator[tuple[str, str | None]]:
        queue = deque(_File(url) for url in roots)
        while queue and self._left > 0:
            file = queue.popleft()
            if file.url in self._seen:
                continue
            if len(self._seen) >= MAX_FILES:
                message = f"not read: {MAX_FILES} sitemaps were read before it"
                self._note_problem(file.url, "sitemap_too_large", message)
                return
            self._seen.add(file.url)
            known = len(file.feed.entries)
            for entry in self._entries(file.url, await self._body(file.url)):
                target = canonical_url(entry.url, file.url)
                if target is None:
                    continue
                if entry.is_sitemap:
                    queue.extend(self._nested(file, target))
                elif entry.is_next:
                    file.following.add(target)
                elif self._left > 0:
                    self._left -= 1
                    file.feed.entries.add(hash(target))
                    yield target, entry.lastmod
                else:
                    message = "the entries beyond what this source may need are not read"
                    self._note_problem(file.url, "sitemap_too_large", message)
                    return
            queue.extendleft(self._continued(file, is_news=len(file.feed.entries) > known))

    def _nested(self, file: _File, target: str) -> Iterator[_File]:
        """Yield the sitemap that an index names, unless it leads in a circle or too deep."""
        if target in (*file.above, file.url):
            self._note_problem(file.url, "sitemap_loop", f"names {target}, which leads to it")
        elif len(file.above) + 1 < MAX_NESTING:
            yield _File(target, (*file.above, file.url))
        else:
            self._note_problem(target, "sitemap_too_deep", f"not read: nested deeper than {MAX_NESTING}")

    def _continued(self, file: _File, *, is_news: bool) -> Iterator[_File]:
        """Yield the next pages of a feed, unless they lead in a circle or this one named no entry that is new."""
        feed = file.feed
        feed.urls.add(file.url)
        for target in sorted(file.following)[:_MAX_FEED_BRANCHES]:
            if target in feed.urls or not is_news:
                self._note_problem(file.url, "sitemap_loop", f"goes on at {target}, which says nothing new")
            elif len(feed.urls) < _MAX_FEED_PAGES:
                yield _File(target, file.above, feed)
            else:
                message = f"not read: {_MAX_FEED_PAGES} pages of its feed were read before it"
                self._note_problem(target, "sitemap_too_large", message)

    async def _body(self, url: str) -> bytes | None:
        requested_url = url
        for _ in range(_MAX_HOPS):
            refusal = await self._robots.refusal(url)
            if refusal is not None:
                self._note_problem(requested_url, refusal.reason, f"sitemap: {refusal.message}")
                return None
            try:
                response = await self._client.get(Request(url, max_bytes=MAX_BYTES, truncate=True))
            except FetchError as error:
                self._note_problem(requested_url, error.reason, f"sitemap: {error}")
                return None
            if 300 <= response.status < 400 and (target := canonical_url(response.headers.get("location", ""), url)):
                url = target
            elif response.status == 200:
                return response.body
            else:
                self._note_status_problem(requested_url, response.status)
                return None
        self._note_problem(requested_url, "redirect_loop", f"sitemap: more than {_MAX_HOPS} redirects")
        return None

    def _note_status_problem(self, url: str, status: int) -> None:
        # /sitemap.xml is only a guess, and a feed may be removed.
        if self._rules.sitemap != AUTO or status not in _ABSENT:
            self._note_problem(url, "not_found" if status in _ABSENT else f"http_{status}", f"sitemap: status {status}")

    def _entries(self, url: str, body: bytes | None) -> Iterator[SitemapEntry]:
        if body is None:
            return
        try:
            yield from read_sitemap(body)
        except TooManyEntries as error:
            self._note_problem(url, "sitemap_too_large", str(error))
        except UnreadableSitemap as error:
            # Some sites respond to any URL with a page.
            if self._rules.sitemap != AUTO or not url.endswith(WELL_KNOWN):
                self._note_problem(url, "sitemap_invalid", str(error))
