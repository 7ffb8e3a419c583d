"""Web sites as a source: start URLs and sitemaps are crawled in a child process, known pages revalidated first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from kb_pipeline.errors import BrowserMissing, Problem
from kb_pipeline.fetch.source import FetchJob, KeyView, Listing, OwnColumns, Redact, Traces
from kb_pipeline.fetch.web.crawl import journal
from kb_pipeline.fetch.web.crawl.find_browser import find_browser
from kb_pipeline.fetch.web.crawl.process import CrawlProcess
from kb_pipeline.fetch.web.file_checks import empty_warnings, glob_problems
from kb_pipeline.fetch.web.page_columns import WebColumns
from kb_pipeline.fetch.web.rules import CrawlFiles, CrawlLimits, CrawlRules, CrawlSummary
from kb_pipeline.fetch.web.stored_links import read_missing_links, store_links
from kb_pipeline.settings import Settings
from kb_pipeline.spec.sources import WebSource
from kb_pipeline.urls import canonical_url

ROWS = journal.ROWS
COLUMNS: OwnColumns = WebColumns()


class WebSite:
    """A web site that is crawled by its rules."""

    type = "web"

    def __init__(self, rules: CrawlRules) -> None:
        self.rules, self.name = rules, rules.source
        self.columns: OwnColumns = WebColumns(keep_lastmod=rules.trust_lastmod)
        self._process: CrawlProcess | None = None

    def fingerprint(self) -> str:
        """Return what changes when any rule of the crawl does."""
        return self.rules.fingerprint()

    @contextmanager
    def warm_up(self, *, knows_documents: bool) -> Iterator[None]:
        """Start the crawl's process: its imports take as long as those of its parent."""
        with CrawlProcess(knows_pages=knows_documents) as self._process:
            try:
                yield
            finally:
                self._process = None

    def fetch(self, job: FetchJob) -> Listing:
        """Crawl into the journal; the listing is never complete, for the crawl asks after each page that it knows."""
        files = CrawlFiles(job.journal, job.notes, job.known.path)
        if files.known is not None:
            read_missing_links(files.links, files.known, job.read_bodies, self.rules.limits.links_per_page)
        summary = self._crawl(files, job)
        if summary.finished:
            store_links(files.links, files.journal)
        return _listing(self.name, summary)

    def _crawl(self, files: CrawlFiles, job: FetchJob) -> CrawlSummary:
        if self._process is not None:
            process, self._process = self._process, None  # it crawls once
            return process.run(self.rules, files, job.progress, job.hosts, job.account)
        with CrawlProcess(knows_pages=files.known is not None) as process:
            return process.run(self.rules, files, job.progress, job.hosts, job.account)


def _listing(source: str, summary: CrawlSummary) -> Listing:
    figures = {"requests": summary.requests, "body_bytes": summary.body_bytes, "out_of_scope": summary.out_of_scope}
    optional = {"not_asked": summary.not_asked, "rendered": summary.rendered, "not_recorded": summary.not_recorded}
    outside = [{"source": source, **asdict(host)} for host in summary.outside_hosts]
    return Listing(
        complete=False,
        names_all=summary.names_all,
        problems=summary.problems,
        figures=figures | {name: figure for name, figure in optional.items() if figure},
        details={"hosts": [asdict(host) for host in summary.hosts]} | ({"outside_hosts": outside} if outside else {}),
    )


def origin(given: WebSource) -> str:
    """Return the first start URL."""
    return given.start_urls[0]


def check(given: WebSource, settings: Settings, *, is_operator: bool) -> Iterator[Problem]:
    """Yield the path globs that are none."""
    del settings, is_operator  # what may be reached on the network is decided at each address
    yield from glob_problems(given)


def warnings(given: WebSource, settings: Settings, redact: Redact) -> Iterator[str]:
    """Yield what a variable in an address means, that no page can be kept, and that a browser is missing here."""
    sitemaps = [] if isinstance(given.sitemap, str) else given.sitemap
    if any(redact(url) != url for url in (*given.start_urls, *sitemaps)):
        yield (
            f"source {given.name}: a variable is part of an address; pages are stored and shown with theirs, so "
            "whoever reads this KB may see the value"
        )
    yield from map(redact, empty_warnings(given))
    if given.render != "never":  # not an error: the refresh may run on another machine
        try:
            find_browser(settings.browser)
        except BrowserMissing as missing:
            yield str(missing)


def _browser_state(settings: Settings) -> str:
    try:
        return f"{find_browser(settings.browser)} renders pages"
    except BrowserMissing as missing:
        if settings.browser:
            raise
        return f"none, which only sources with render: auto or always need; {missing}"


DEPENDENCIES: Mapping[str, Callable[[Settings], str]] = {"browser": _browser_state}


def spell(key: str) -> str | None:
    """Return the canonical URL."""
    return canonical_url(key)


def explain(given: WebSource, settings: Settings, key: str, traces: Traces) -> KeyView:
    """Return how a page is met and what is decided about it, from what is stored."""
    from kb_pipeline.fetch.web.explain import explain_url

    # No browser is needed to say it.
    return explain_url(crawl_rules(given.model_copy(update={"render": "never"}), settings), key, traces)


def open_source(given: WebSource, settings: Settings, erased: Sequence[str], *, is_operator: bool) -> WebSite:
    """Return the site with the rules that the KB file and the operator's settings ask of the crawler."""
    del is_operator
    return WebSite(crawl_rules(given, settings, erased))


def crawl_rules(given: WebSource, settings: Settings, erased: Sequence[str] = ()) -> CrawlRules:
    """Return what a source of the KB file and the operator's settings ask of the crawler; raise BrowserMissing."""
    return CrawlRules(
        source=given.name,
        start_urls=tuple(given.start_urls),
        sitemap=given.sitemap if isinstance(given.sitemap, str) else tuple(given.sitemap),
        scope=given.scope,
        include=tuple(given.include),
        exclude=tuple(given.exclude),
        max_pages=given.max_pages,
        max_depth=given.max_depth,
        delay_s=given.delay_s,
        user_agent=settings.user_agent,
        allowed_networks=settings.allowed_networks,
        erased=tuple(erased),
        trust_lastmod=given.trust_lastmod,
        proxy=settings.proxy,
        render=given.render,
        browser=find_browser(settings.browser) if given.render != "never" else "",
        max_body_bytes=round(given.limits.body_mb * (1 << 20)),
        limits=CrawlLimits(**given.limits.model_dump(exclude={"body_mb"})),
    )
