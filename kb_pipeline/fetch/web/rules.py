"""What one web source asks of a crawl, and what a crawl answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kb_pipeline.model import digest

AUTO, OFF = "auto", "off"


@dataclass(frozen=True, slots=True)
class CrawlRules:
    """The knobs of one crawl, validated by whoever read them from a person."""

    source: str
    start_urls: tuple[str, ...]
    sitemap: str | tuple[str, ...]
    """`auto` (robots.txt, else /sitemap.xml), `off`, or the URLs of sitemaps."""
    scope: str
    """`host`, `domain` (registrable domain) or `prefix` (folder of the start URL)."""
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    max_pages: int
    max_depth: int
    delay_s: float
    """Least time between two requests to one host; a longer Crawl-delay wins."""
    user_agent: str
    allowed_networks: tuple[str, ...]
    """Private networks the operator opened (KB_ALLOW_PRIVATE_NETWORKS), as CIDRs."""
    timeout_s: float = 30.0
    """Longest silence of a server."""
    deadline_s: float = 120.0
    """Longest time for one whole response."""
    max_body_bytes: int = 20 * 1024 * 1024
    retries: int = 2
    backoff_s: float = 1.0
    """First wait before a retry; doubles each time, with jitter. Retry-After wins when longer."""
    max_redirects: int = 10
    concurrency: int = 16
    """Most requests in flight at one host without a delay; with a delay it is one."""
    trust_lastmod: bool = False
    """Whether a known page whose sitemap lastmod is the stored one is not asked for at all."""
    erased: tuple[str, ...] = ()
    """Ids (model.document_id) of documents that must never be fetched again."""

    def as_json(self) -> dict[str, Any]:
        """The rules as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> CrawlRules:
        """The inverse of as_json."""
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        return cls(**given)

    def fingerprint(self) -> str:
        """Changes when any rule does."""
        return digest("crawl-rules", json.dumps(self.as_json(), sort_keys=True))


@dataclass(frozen=True, slots=True)
class CrawlSummary:
    """What became of the URLs of one crawl, as its journal has them."""

    outcomes: Mapping[str, int]
    """Keys of each outcome: fetched, unchanged, redirected, rejected, failed."""
    reasons: Mapping[str, int]
    """Keys of each reason code, rejected and failed together (a code belongs to one of them)."""
    out_of_scope: int
    """Distinct links outside the scope: seen, counted, not rows."""
    not_recorded: int
    """Distinct links in scope that got no row: left over at max_pages, or beyond the frontier's cap."""
    requests: int
    body_bytes: int
    seconds: float
    finished: bool
    """False when it was cancelled: calling again with the same journal goes on from there."""
    warnings: tuple[str, ...] = ()
    """What an operator should know, such as a sitemap that could not be read."""
    peak_rss_bytes: int = 0
    skipped_by_lastmod: int = 0
    """Unchanged pages that were not asked for, because the sitemap says so and `trust_lastmod` believes it."""
    engines: tuple[str, ...] = ()
    """The HTTP libraries the crawl loaded: aiohttp for pages it knew, scrapy where something new was found."""
