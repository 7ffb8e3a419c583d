"""Looks at a site before it is crawled: what robots.txt allows, where its pages are named, in which language they are.

A handful of polite requests, by the same client, address guard and robots.txt rules as a crawl.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kb_pipeline.errors import SiteUnreachable
from kb_pipeline.fetch.web.crawl.outcomes import REDIRECTS
from kb_pipeline.fetch.web.crawl.robots_cache import RobotsCache, StoredRobots
from kb_pipeline.fetch.web.crawl.sitemap_loader import SitemapHints, SitemapLoader
from kb_pipeline.fetch.web.http.client import FetchError, PoliteClient, Request, Response
from kb_pipeline.fetch.web.parse.html_links import ParsedPage, parse_page
from kb_pipeline.fetch.web.politeness.host_throttle import HostThrottles
from kb_pipeline.fetch.web.robots import RobotsPolicy
from kb_pipeline.fetch.web.source import crawl_rules
from kb_pipeline.host_scheduler import LocalHostScheduler, Permit, Report
from kb_pipeline.page_kind import is_html
from kb_pipeline.settings import Settings
from kb_pipeline.spec.sources import WebSource
from kb_pipeline.urls import canonical_url, folder_of, origin_of, path_of

_MAX_HOPS = 5
_OK = 200
_PAUSE_S = 0.2
"""Between two requests, unless robots.txt asks for more."""
_HEAD_BYTES = 4096
_MOST_LINKS = 10_000
_MOST_NAMED = 100_000
_SITEMAPS_S = 30.0
"""Longest time for reading sitemaps: an estimate is enough."""
_LANGUAGE = re.compile(rb"<html[^>]*\slang\s*=\s*[\"']?([A-Za-z]{2,3})\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SiteSurvey:
    """What a look at a site found."""

    url: str
    """Where the given address leads to."""
    crawl_delay_s: float
    """Seconds between two requests that robots.txt asks for; 0 without."""
    named_pages: int
    """Pages of the host that sitemaps and feeds name."""
    named_below: int
    """Those of them below the folder of the URL."""
    linked_pages: int
    """Pages of the host that the first page links to."""
    language: str | None
    """ISO 639, as the first page says."""
    needs_scripts: bool
    """Whether the first page shows next to nothing before its scripts run."""


def survey_site(url: str, settings: Settings) -> SiteSurvey:
    """Look at the site of a URL.

    Raises:
        SiteUnreachable: there is no page, or robots.txt does not let it be fetched.
    """
    return asyncio.run(_survey(url, settings))


async def _survey(url: str, settings: Settings) -> SiteSurvey:
    from kb_pipeline.fetch.web.http import aiohttp_transport

    rules = crawl_rules(WebSource(name="site", type="web", start_urls=[url]), settings)
    scheduler = LocalHostScheduler()

    async def exchange(reports: Mapping[str, Report]) -> Mapping[str, Permit]:
        return scheduler.exchange(reports)

    throttles = HostThrottles(_PAUSE_S, 1, exchange)
    with tempfile.TemporaryDirectory(prefix="kb-init-") as notes:
        async with aiohttp_transport.transport(rules) as transport:
            client = PoliteClient(transport, throttles, rules)
            robots = RobotsCache(client, throttles, rules.user_agent, StoredRobots(Path(notes)))
            final, response, page = await _first_page(url, client, robots)
            origin = origin_of(final)
            policy = await robots.policy(origin)
            hints = SitemapHints(Path(notes) / "sitemaps.json")
            hints.add(page.feeds)
            named = await _named_pages(SitemapLoader(client, robots, rules, hints, lambda *_: None, [origin]), origin)
    language = _LANGUAGE.search(response.body[:_HEAD_BYTES])
    return SiteSurvey(
        url=final,
        crawl_delay_s=(policy.crawl_delay or 0.0) if isinstance(policy, RobotsPolicy) else 0.0,
        named_pages=len(named),
        named_below=sum(path_of(name).startswith(folder_of(final)) for name in named),
        linked_pages=len({link for link in page.urls if origin_of(link) == origin}),
        language=language[1].decode().lower() if language else None,
        needs_scripts=page.is_shell,
    )


async def _first_page(url: str, client: PoliteClient, robots: RobotsCache) -> tuple[str, Response, ParsedPage]:
    """Return the page that a URL leads to; raise SiteUnreachable."""
    target = canonical_url(url) or url
    for _ in range(_MAX_HOPS + 1):
        try:
            if (refusal := await robots.refusal(target)) is not None:
                raise SiteUnreachable(target, refusal.message or refusal.reason)
            response = await client.get(Request(target))
        except FetchError as error:
            raise SiteUnreachable(target, str(error) or error.reason) from None
        if response.status in REDIRECTS:
            target = canonical_url(response.headers.get("location", ""), target) or target
            continue
        if response.status != _OK:
            raise SiteUnreachable(target, f"its server answers with status {response.status}")
        content_type = response.headers.get("content-type", "")
        if not is_html(content_type, target, response.body):
            return target, response, ParsedPage()
        page = parse_page(response.body, content_type, target, _MOST_LINKS, response.headers.get("link", ""))
        if page.redirect is None:
            return target, response, page
        target = page.redirect.target
    raise SiteUnreachable(url, f"it redirects more than {_MAX_HOPS} times")


async def _named_pages(loader: SitemapLoader, origin: str) -> set[str]:
    """Return the pages of the host that its sitemaps and feeds name, as far as they are read in time."""
    named: set[str] = set()
    with contextlib.suppress(TimeoutError, FetchError):
        async with asyncio.timeout(_SITEMAPS_S):
            async for page, _ in loader.pages():
                if origin_of(page) == origin:
                    named.add(page)
                if len(named) >= _MOST_NAMED:
                    break
    return named
