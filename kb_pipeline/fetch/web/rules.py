"""What one web source asks of a crawl, and what a crawl answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kb_pipeline.fetch.source import SourceProblem
from kb_pipeline.model import digest
from kb_pipeline.store.paths import LINKS_FILE

AUTO, OFF = "auto", "off"


@dataclass(frozen=True, slots=True)
class CrawlLimits:
    """How much of a site is too much; what goes beyond has a reason code of its own."""

    links_per_page: int = 10_000
    per_directory: int = 10_000
    """Visits to URLs of one folder that lead to nothing new, where folders that differ in numbers count as one."""
    per_query_pattern: int = 1_000
    """Visits to URLs of one path with the same names in their query that lead to nothing new."""
    path_segments: int = 20
    repetitive_pages: int = 100
    """Visits to one host that lead to nothing new, where news raises it; one pattern may have about an eighth."""


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
    proxy: str = ""
    """`http://HOST:PORT` of a proxy that the operator trusts to refuse private addresses too; empty for none."""
    timeout_s: float = 30.0
    """Longest silence of a server."""
    deadline_s: float = 120.0
    """Longest time for one whole response."""
    max_body_bytes: int = 20 * 1024 * 1024
    retries: int = 2
    backoff_s: float = 1.0
    """First wait before a retry; doubles each time, with jitter. Retry-After wins when longer."""
    max_header_bytes: int = 64 * 1024
    max_redirects: int = 10
    concurrency: int = 16
    """Most requests in flight at one host without a delay; with a delay it is one."""
    trust_lastmod: bool = False
    """Whether a known page whose sitemap lastmod is the stored one is not asked for at all."""
    render: str = "never"
    """`never`, `auto` (pages that show nothing without their scripts) or `always`."""
    render_timeout_s: float = 60.0
    """Longest time for the scripts of one page, with all that they fetch."""
    browser: str = ""
    """The executable of Chromium, where pages are rendered."""
    limits: CrawlLimits = CrawlLimits()
    erased: tuple[str, ...] = ()
    """Ids (model.document_id) of documents that must never be fetched again."""

    def as_json(self) -> dict[str, Any]:
        """Return the rules as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> CrawlRules:
        """Parse the result of as_json."""
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        return cls(**{**given, "limits": CrawlLimits(**given["limits"])})

    def fingerprint(self) -> str:
        """Return a hash of all rules."""
        return digest("crawl-rules", json.dumps(self.as_json(), sort_keys=True))


@dataclass(frozen=True, slots=True)
class CrawlFiles:
    """Where a crawl reads and writes."""

    journal: Path
    """The folder of its rows; see journal.py. A crawl goes on from what it already holds."""
    notes: Path
    """The folder of what is remembered of the sites from one crawl to the next."""
    known: Path | None = None
    """A Parquet file with the columns of known_pages.COLUMNS: the keys of earlier refreshes. Those with a hash are
    asked for conditionally, before and apart from discovery."""

    @property
    def links(self) -> Path:
        """The file of the links between the pages that are known; see link_graph.py."""
        return self.notes / LINKS_FILE

    def as_json(self) -> dict[str, str | None]:
        """Return the absolute paths as plain JSON values."""
        known = str(self.known.absolute()) if self.known else None
        return {"journal": str(self.journal.absolute()), "notes": str(self.notes.absolute()), "known": known}

    @classmethod
    def from_json(cls, paths: Mapping[str, str | None]) -> CrawlFiles:
        """Parse the result of as_json."""
        return cls(Path(paths["journal"] or ""), Path(paths["notes"] or ""), Path(k) if (k := paths["known"]) else None)


@dataclass(frozen=True, slots=True)
class HostFigures:
    """What one host cost."""

    host: str
    requests: int
    waited_s: float
    """Time that visits spent waiting for the host's turns, all together."""


@dataclass(frozen=True, slots=True)
class OutsideHost:
    """A host that links lead to although it is out of scope."""

    host: str
    """With its port; empty for all hosts that are not named."""
    urls: int
    """Distinct URLs."""
    is_sibling: bool
    """Whether it is another host of the same site; see scope.Scope.is_sibling."""


@dataclass(frozen=True, slots=True)
class CrawlSummary:
    """What became of the URLs of one crawl, as its journal has them."""

    outcomes: Mapping[str, int]
    """Keys of each outcome: fetched, unchanged, redirected, rejected, failed."""
    reasons: Mapping[str, int]
    """Keys of each reason code, rejected and failed together (a code belongs to one of them)."""
    out_of_scope: int
    """Distinct links outside the scope: seen, counted, not rows."""
    outside_hosts: tuple[OutsideHost, ...]
    """Where most of them lead, siblings first."""
    not_recorded: int
    """Distinct links in scope that got no row: left over at max_pages, or beyond the frontier's cap."""
    requests: int
    body_bytes: int
    seconds: float
    finished: bool
    """False when it was cancelled: calling again with the same journal goes on from there."""
    problems: tuple[SourceProblem, ...] = ()
    peak_rss_bytes: int = 0
    not_asked: int = 0
    """Unchanged pages that were not asked for: the sitemap says so and is trusted, or they are not due."""
    rendered: int = 0
    """Pages whose scripts were run in a browser."""
    hosts: tuple[HostFigures, ...] = ()
    """The hosts with the most requests."""
    names_all: bool = False
    """Whether every key that anything leads to has a row or is counted: no sitemap failed, no quota ended the crawl."""
    engines: tuple[str, ...] = ()
    """The HTTP libraries the crawl loaded: aiohttp for pages it knew, scrapy where something new was found."""
