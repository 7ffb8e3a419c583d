"""Fetches the sitemaps of a source and the sitemaps they name, within the limits of depth and number."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator

from kb_pipeline.fetch.web.client import Get, NoAnswer, PoliteClient
from kb_pipeline.fetch.web.robots import RobotsPolicy
from kb_pipeline.fetch.web.robots_files import RobotsFiles
from kb_pipeline.fetch.web.rules import AUTO, OFF, CrawlRules
from kb_pipeline.fetch.web.sitemaps import (
    MAX_BYTES,
    MAX_NESTING,
    SitemapEntry,
    UnreadableSitemap,
    read_sitemap,
)
from kb_pipeline.fetch.web.urls import canonical_url, origin_of

MAX_FILES = 500
_URLS_A_PAGE = 20
_MIN_URLS = 10_000
_MAX_HOPS = 5


class SitemapFiles:
    """The sitemaps of one crawl; their files pass guard, robots and clocks as any page does."""

    def __init__(
        self, client: PoliteClient, robots: RobotsFiles, rules: CrawlRules, warn: Callable[[str], None]
    ) -> None:
        self._client, self._robots, self._rules, self._warn = client, robots, rules, warn
        self._left = max(_MIN_URLS, _URLS_A_PAGE * rules.max_pages)
        self._seen: set[str] = set()

    async def pages(self) -> AsyncIterator[tuple[str, str | None]]:
        """Yield URL (canonical) and lastmod of every page the sitemaps name; what cannot be read becomes a warning."""
        queue = deque([(url, 1) async for url in self._roots()])
        while queue and len(self._seen) < MAX_FILES and self._left > 0:
            url, nesting = queue.popleft()
            if url in self._seen:
                continue
            self._seen.add(url)
            for entry in self._entries(url, await self._body(url)):
                target = canonical_url(entry.url, url)
                if target is not None and entry.is_sitemap and nesting < MAX_NESTING:
                    queue.append((target, nesting + 1))
                elif target is not None and not entry.is_sitemap and self._left > 0:
                    self._left -= 1
                    yield target, entry.lastmod

    async def _roots(self) -> AsyncIterator[str]:
        if self._rules.sitemap == OFF:
            return
        if self._rules.sitemap != AUTO:
            named = self._rules.sitemap
            for url in (named,) if isinstance(named, str) else named:
                yield canonical_url(url) or url
            return
        for origin in dict.fromkeys(origin_of(url) for url in map(canonical_url, self._rules.start_urls) if url):
            policy = await self._robots.policy(origin)
            if not isinstance(policy, RobotsPolicy):
                continue
            named_there = [url for url in (canonical_url(line, origin) for line in policy.sitemaps) if url]
            for url in named_there or [f"{origin}/sitemap.xml"]:
                yield url

    async def _body(self, url: str) -> bytes | None:
        for _ in range(_MAX_HOPS):
            refusal = await self._robots.refusal(url)
            if refusal is not None:
                self._warn(f"sitemap {url}: {refusal.reason}: {refusal.message}")
                return None
            try:
                answer = await self._client.get(Get(url, max_bytes=MAX_BYTES))
            except NoAnswer as failure:
                self._warn(f"sitemap {url}: {failure.reason}: {failure}")
                return None
            if 300 <= answer.status < 400 and (target := canonical_url(answer.headers.get("location", ""), url)):
                url = target
            elif answer.status == 200:
                return answer.body
            else:
                self._warn_of_status(url, answer.status)
                return None
        return None

    def _warn_of_status(self, url: str, status: int) -> None:
        # Nobody promised /sitemap.xml.
        if self._rules.sitemap != AUTO or status not in (404, 410):
            self._warn(f"sitemap {url}: status {status}")

    def _entries(self, url: str, body: bytes | None) -> Iterator[SitemapEntry]:
        try:
            yield from read_sitemap(body or b"")
        except UnreadableSitemap as error:
            self._warn(f"sitemap {url}: {error}")
