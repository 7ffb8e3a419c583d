"""Fetches one page: checks whether it may be fetched, requests it, and returns its outcome."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kb_pipeline.fetch.web.crawl import outcomes
from kb_pipeline.fetch.web.crawl.frontier import CrawlRequest
from kb_pipeline.fetch.web.crawl.journal import Row
from kb_pipeline.fetch.web.crawl.known_pages import KnownPage
from kb_pipeline.fetch.web.crawl.link_policy import Discovery
from kb_pipeline.fetch.web.crawl.page_quota import PageQuota
from kb_pipeline.fetch.web.crawl.robots_cache import RobotsCache
from kb_pipeline.fetch.web.http.client import FetchError, PoliteClient, Response
from kb_pipeline.fetch.web.http.media_types import is_html
from kb_pipeline.fetch.web.parse.html_links import ParsedPage, parse_page
from kb_pipeline.fetch.web.politeness import usage_directives
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.model import document_id

if TYPE_CHECKING:
    from kb_pipeline.fetch.web.crawl.browser import Renderer


@dataclass(frozen=True, slots=True)
class FetchResult:
    """The outcome of one URL."""

    row: Row
    page: ParsedPage | None = None
    """The parsed page, when it was fetched and is HTML; also None when its links must not be followed."""


class PageFetcher:
    """Fetches the URLs of one crawl."""

    def __init__(
        self,
        rules: CrawlRules,
        client: PoliteClient,
        robots: RobotsCache,
        discovery: Discovery,
        renderer: Renderer | None,
        quota: PageQuota,
    ) -> None:
        self._quota = quota
        self._rules, self._client, self._robots, self._discovery = rules, client, robots, discovery
        self._renderer = renderer
        self._erased = frozenset(rules.erased)
        self.starts_failed = False
        """Whether a start URL got no response: how far the scope reaches is then unknown."""

    async def fetch(
        self, request: CrawlRequest, known: KnownPage | None, *, may_skip: bool, may_wait: bool
    ) -> FetchResult:
        """Fetch one URL and return its outcome; raise CrawlStopped when the crawl stops first.

        Args:
            request: the URL.
            known: what an earlier refresh stored of it.
            may_skip: whether a page with stored bytes may be left as it is without a request.
            may_wait: whether a page that is not due may wait for a later refresh.
        """
        if (refusal := await self._policy_refusal(request)) is not None:
            return FetchResult(refusal)
        if known is not None and known.waits and may_wait:
            return FetchResult(outcomes.postponed(request, known) if known.reason else outcomes.skipped(request, known))
        if known is not None and known.sha256 and may_skip:
            return FetchResult(outcomes.skipped(request, known))
        if not await self._quota.take_one():
            return FetchResult(outcomes.refused(request, "quota"))
        result = await self._request(request, known)
        if not result.row.attempts:
            self._quota.put_back()
        if result.row.outcome == "fetched" and request.is_start and not self._discovery.paths.is_included(request.url):
            # The include globs leave the start page out, yet its links are how the crawl begins.
            message = "start URL, fetched for its links only"
            row = outcomes.refused(request, "excluded", message, result.row.attempts)
            row.received = result.row.received
            return replace(result, row=row)
        return result

    def parse(self, row: Row) -> ParsedPage | None:
        """Parse a fetched page; return None when it is not HTML or its links must not be followed."""
        if not is_html(row.content_type) or usage_directives.forbids(row.consent, "nofollow"):
            return None
        return parse_page(row.body or b"", row.content_type or "", row.url, self._rules.limits.links_per_page)

    async def _policy_refusal(self, request: CrawlRequest) -> Row | None:
        discovery = self._discovery
        if self._erased and document_id(self._rules.source, request.url) in self._erased:
            return outcomes.refused(request, "erased")
        if not discovery.scope.covers(request.url):
            return outcomes.refused(request, "start_failed" if self.starts_failed else "out_of_scope")
        # The include globs do not keep a start page from being fetched: its links begin the crawl.
        is_allowed = request.is_start or discovery.paths.is_included(request.url)
        if discovery.paths.is_excluded(request.url) or not is_allowed:
            return outcomes.refused(request, "excluded")
        if request.depth > self._rules.max_depth:
            return outcomes.refused(request, "too_deep")
        refusal = await self._robots.refusal(request.url)
        if refusal is not None:
            return outcomes.refused(request, refusal.reason, refusal.message)
        return outcomes.refused(request, "repetitive") if discovery.is_over_repetitive_limit(request) else None

    async def _request(self, request: CrawlRequest, known: KnownPage | None) -> FetchResult:
        # A page that may need rendering is parsed before it counts as unchanged: what its scripts load may change while
        # the bytes that the server sends do not.
        comparable = None if known is not None and self._may_need_rendering(known) else known
        http_request = outcomes.page_request(request, comparable)
        try:
            response = await self._client.get(http_request)
            if known is not None and known.sha256 and response.status in outcomes.GONE:
                # A deletion needs proof: request it once more before believing it.
                response = await self._client.get(http_request)
            if (spelled := outcomes.self_redirect(request, response)) and await self._robots.refusal(spelled) is None:
                # It redirects to itself plus a session id or a tracker; the key stays the plain URL.
                response = await self._client.get(replace(http_request, url=spelled))
        except FetchError as error:
            return FetchResult(outcomes.failed(request, error))
        if response.status in outcomes.REDIRECTS:
            return FetchResult(self._redirect(request, response))
        signals = self._robots.signals(request.url)
        evidence = usage_directives.from_response(response.headers, signals, datetime.now(UTC))
        row = outcomes.from_response(request, response, comparable, evidence)
        if row.outcome != "fetched":
            return FetchResult(row)
        page = self._parse_into(row) if is_html(row.content_type) else None
        if page is not None and self._renderer is not None and self._needs_rendering(page):
            try:
                row, page = await self._render(self._renderer, row)
            except FetchError as error:
                return FetchResult(outcomes.failed(request, error))
        followed = None if usage_directives.forbids(row.consent, "nofollow") else page
        if usage_directives.forbids(row.consent, "noindex"):
            return FetchResult(outcomes.noindex(request, row), followed)
        return FetchResult(outcomes.mark_unchanged(row, known), followed)

    def _parse_into(self, row: Row) -> ParsedPage:
        """Parse a fetched page and add its robots directives to the row."""
        page = parse_page(row.body or b"", row.content_type or "", row.url, self._rules.limits.links_per_page)
        row.consent = usage_directives.add_page_directives(row.consent, page.meta_tags, datetime.now(UTC))
        row.shell = page.is_shell if row.shell is None else row.shell
        return page

    def _may_need_rendering(self, known: KnownPage) -> bool:
        if self._rules.render == "always":
            return True
        return self._rules.render == "auto" and (known.shell is not False or bool(known.rendered))

    def _needs_rendering(self, page: ParsedPage) -> bool:
        return self._rules.render == "always" or page.is_shell

    async def _render(self, renderer: Renderer, row: Row) -> tuple[Row, ParsedPage]:
        """Return the row and the parsed page as rendered, as if the server had sent them so."""
        html = await renderer.render(row.url, row.body or b"", row.content_type or "")
        if len(html) > self._rules.max_body_bytes:
            raise FetchError(
                "too_large", f"more than {self._rules.max_body_bytes} characters when rendered", row.attempts
            )
        filled = outcomes.rendered(row, html)
        return filled, self._parse_into(filled)

    def _redirect(self, request: CrawlRequest, response: Response) -> Row:
        target, why = outcomes.redirect_target(response)
        if target is None:
            return outcomes.refused(request, "invalid_url", why, response.attempts)
        if target in (*request.chain, request.url) or len(request.chain) >= self._rules.max_redirects:
            return outcomes.redirected(request, response, target, "redirect_loop")
        if not request.is_start and not self._discovery.scope.covers(target):
            return outcomes.redirected(request, response, target, "redirect_out_of_scope")
        return outcomes.redirected(request, response, target)
