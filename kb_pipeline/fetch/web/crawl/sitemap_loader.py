"""Fetches the sitemaps and feeds of a source and the sitemaps they name, within the limits of depth and number."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path

from kb_pipeline.fetch.web.crawl.robots_cache import RobotsFiles
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
"""Where sitemaps lie that nobody names. The first crawl tries one after the other, later ones what was found there."""
_URLS_A_PAGE = 20
_MIN_URLS = 10_000
_MAX_HOPS = 5
_MAX_FEEDS = 10
_ABSENT = (404, 410)

NoteProblem = Callable[[str, str, str], None]
"""Told the URL, a reason code and a message."""


class SitemapNotes:
    """What earlier crawls of a source found out: where its sitemaps lie, and which feeds its start pages name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.places: list[str] | None = None
        """The well-known places that held a sitemap; None before the first crawl."""
        self.feeds: list[str] = []
        try:
            noted = json.loads(path.read_bytes())
            self.places, self.feeds = noted["places"], noted["feeds"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # the first crawl, or a torn file

    def add(self, feeds: Iterable[str]) -> None:
        """Note feeds that a start page names."""
        self.feeds = list(dict.fromkeys([*feeds, *self.feeds]))[:_MAX_FEEDS]

    def write(self) -> None:
        """Keep the notes for the next crawl."""
        beside = self._path.with_suffix(".tmp")
        beside.write_text(json.dumps({"places": self.places or [], "feeds": self.feeds}))
        beside.replace(self._path)


class SitemapFiles:
    """The sitemaps of one crawl; their files pass guard, robots and clocks as any page does."""

    def __init__(
        self, client: PoliteClient, robots: RobotsFiles, rules: CrawlRules, notes: SitemapNotes, note: NoteProblem
    ) -> None:
        self._client, self._robots, self._rules, self._notes, self._note = client, robots, rules, notes, note
        self._left = max(_MIN_URLS, _URLS_A_PAGE * rules.max_pages)
        self._seen: set[str] = set()

    async def pages(self) -> AsyncIterator[tuple[str, str | None]]:
        """Yield URL (canonical) and lastmod of every page that is named; what cannot be read becomes a problem."""
        if self._rules.sitemap == OFF:
            return
        if self._rules.sitemap == AUTO:
            async for page in self._well_known_pages():
                yield page
            roots = [url async for url in self._named_by_robots()] + self._notes.feeds
        else:
            roots = [canonical_url(url) or url for url in self._named_in_rules()]
        async for page in self._pages_of(roots):
            yield page
        self._notes.write()

    def _named_in_rules(self) -> tuple[str, ...]:
        named = self._rules.sitemap
        return (named,) if isinstance(named, str) else named

    async def _named_by_robots(self) -> AsyncIterator[str]:
        for origin in self._origins():
            policy = await self._robots.policy(origin)
            for line in policy.sitemaps if isinstance(policy, RobotsPolicy) else ():
                if url := canonical_url(line, origin):
                    yield url

    async def _well_known_pages(self) -> AsyncIterator[tuple[str, str | None]]:
        """The pages of sitemaps that robots.txt could name and does not."""
        found = []
        for origin in self._origins():
            policy = await self._robots.policy(origin)
            if not isinstance(policy, RobotsPolicy) or policy.sitemaps:
                continue
            known = [url for url in self._notes.places or () if origin_of(url) == origin]
            untried = WELL_KNOWN if self._notes.places is None else WELL_KNOWN[:1]
            for url in known or [origin + path for path in untried]:
                async for page in self._pages_of([url]):
                    yield page
                    if url not in found:
                        found.append(url)
                if url in found:
                    break
        self._notes.places = found or self._notes.places

    def _origins(self) -> Iterable[str]:
        return dict.fromkeys(origin_of(url) for url in map(canonical_url, self._rules.start_urls) if url)

    async def _pages_of(self, roots: Iterable[str]) -> AsyncIterator[tuple[str, str | None]]:
        queue: deque[tuple[str, tuple[str, ...]]] = deque((url, ()) for url in roots)
        """Each with the sitemaps that lead to it."""
        while queue and self._left > 0:
            url, above = queue.popleft()
            if url in self._seen:
                continue
            if len(self._seen) >= MAX_FILES:
                self._note(url, "sitemap_too_large", f"not read: {MAX_FILES} sitemaps were read before it")
                return
            self._seen.add(url)
            for entry in self._entries(url, await self._body(url)):
                target = canonical_url(entry.url, url)
                if target is not None and entry.is_sitemap:
                    if target in (*above, url):
                        self._note(url, "sitemap_loop", f"names {target}, which leads to it")
                    elif len(above) + 1 < MAX_NESTING:
                        queue.append((target, (*above, url)))
                    else:
                        self._note(target, "sitemap_too_deep", f"not read: nested deeper than {MAX_NESTING}")
                elif target is not None and self._left > 0:
                    self._left -= 1
                    yield target, entry.lastmod
                elif target is not None:
                    self._note(url, "sitemap_too_large", "the entries beyond what this source may need are not read")
                    return

    async def _body(self, url: str) -> bytes | None:
        asked = url
        for _ in range(_MAX_HOPS):
            refusal = await self._robots.refusal(url)
            if refusal is not None:
                self._note(asked, refusal.reason, f"sitemap: {refusal.message}")
                return None
            try:
                answer = await self._client.get(Request(url, max_bytes=MAX_BYTES, cut=True))
            except FetchError as failure:
                self._note(asked, failure.reason, f"sitemap: {failure}")
                return None
            if 300 <= answer.status < 400 and (target := canonical_url(answer.headers.get("location", ""), url)):
                url = target
            elif answer.status == 200:
                return answer.body
            else:
                self._note_status(asked, answer.status)
                return None
        self._note(asked, "redirect_loop", f"sitemap: more than {_MAX_HOPS} redirects")
        return None

    def _note_status(self, url: str, status: int) -> None:
        # Nobody promised /sitemap.xml, and a feed may go.
        if self._rules.sitemap != AUTO or status not in _ABSENT:
            self._note(url, "not_found" if status in _ABSENT else f"http_{status}", f"sitemap: status {status}")

    def _entries(self, url: str, body: bytes | None) -> Iterator[SitemapEntry]:
        if body is None:
            return
        try:
            yield from read_sitemap(body)
        except TooManyEntries as error:
            self._note(url, "sitemap_too_large", str(error))
        except UnreadableSitemap as error:
            # Some sites answer any address with a page.
            if self._rules.sitemap != AUTO or not url.endswith(WELL_KNOWN):
                self._note(url, "sitemap_invalid", str(error))
