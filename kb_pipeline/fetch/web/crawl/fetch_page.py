"""Fetches one page: checks whether it may be fetched, requests it, and returns its outcome."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING

from msgspec.structs import replace as replace_row

from kb_pipeline.fetch.web.crawl import outcomes
from kb_pipeline.fetch.web.crawl.doors import Doors
from kb_pipeline.fetch.web.crawl.frontier import CrawlRequest
from kb_pipeline.fetch.web.crawl.journal import Row
from kb_pipeline.fetch.web.crawl.known_pages import KnownPage
from kb_pipeline.fetch.web.crawl.link_policy import Discovery
from kb_pipeline.fetch.web.crawl.page_quota import PageQuota
from kb_pipeline.fetch.web.crawl.robots_cache import Refusal, RobotsCache, refusal_of
from kb_pipeline.fetch.web.http.client import FetchError, PoliteClient, Response
from kb_pipeline.fetch.web.parse.html_links import ParsedPage, parse_page
from kb_pipeline.fetch.web.politeness import usage_directives
from kb_pipeline.fetch.web.robots import RobotsPolicy
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.model import document_id
from kb_pipeline.page_kind import is_html
from kb_pipeline.urls import origin_of

if TYPE_CHECKING:
    from kb_pipeline.fetch.web.crawl.browser import Renderer


@dataclass(frozen=True, slots=True)
class FetchResult:
    """The outcome of one URL."""

    row: Row
    page: ParsedPage | None = None
    """The parsed page, when it was fetched and is HTML, also one that sends its readers on: what else it links to is
    followed too. None as well when its links must not be followed."""


class Verdict(Enum):
    """What is to be done about a URL that has no outcome yet."""

    FETCH = "fetch"
    """Its robots.txt is to be read first."""
    REQUEST = "request"


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
        self._renderer, self._doors = renderer, Doors(client, robots)
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
        if (row := self._refused_by_file(request)) is not None:
            return FetchResult(row)
        policy = await self._robots.policy(origin_of(request.url))
        if (row := _without_request(request, known, policy, may_skip=may_skip, may_wait=may_wait)) is not None:
            return FetchResult(row)
        return await self.request(request, known)

    async def request(self, request: CrawlRequest, known: KnownPage | None) -> FetchResult:
        """Request a URL of which `settle` found that it may and has to be asked for; raise CrawlStopped."""
        if not await self._quota.take_one():
            return FetchResult(outcomes.left_over(request, known, "quota"))
        result = await self._request(request, known)
        if not result.row.attempts:
            self._quota.put_back()
        if result.row.outcome in ("fetched", "unchanged") and self._is_only_for_links(request):
            # The include globs leave the start page out, yet its links are how the crawl begins.
            message = "start URL, fetched for its links only"
            row = outcomes.refused(request, "excluded", message, result.row.attempts)
            row.received = result.row.received
            return replace(result, row=row)
        return result

    def settle(
        self, request: CrawlRequest, known: KnownPage | None, *, may_skip: bool, may_wait: bool
    ) -> Row | Verdict:
        """Return the row of a URL that no request is made for, or what is to be done about it.

        It costs a tenth of what `fetch` does in a task of its own. The arguments are those of `fetch`.
        """
        if (row := self._refused_by_file(request)) is not None:
            return row
        policy = self._robots.read_policy(origin_of(request.url))
        if policy is None:
            return Verdict.FETCH
        row = _without_request(request, known, policy, may_skip=may_skip, may_wait=may_wait)
        return row if row is not None else Verdict.REQUEST

    def parse(self, row: Row) -> ParsedPage | None:
        """Parse a fetched page; return None when it is not HTML or its links must not be followed."""
        if not is_html(row.content_type, row.url, row.body or b"") or usage_directives.forbids(row.consent, "nofollow"):
            return None
        return parse_page(row.body or b"", row.content_type or "", row.url, self._rules.limits.links_per_page)

    def _refused_by_file(self, request: CrawlRequest) -> Row | None:
        discovery = self._discovery
        if self._erased and document_id(self._rules.source, request.url) in self._erased:
            return outcomes.refused(request, "erased")
        if not discovery.scope.covers(request.url):
            return outcomes.refused(request, "start_failed" if self.starts_failed else "out_of_scope")
        # The include globs do not keep a start page from being fetched: its links begin the crawl.
        is_read = request.is_start and not discovery.paths.is_excluded(request.url)
        if not (is_read or discovery.paths.is_included(request.url)):
            return outcomes.refused(request, "excluded")
        if request.depth > self._rules.max_depth:
            return outcomes.refused(request, "too_deep")
        return None

    async def _request(self, request: CrawlRequest, known: KnownPage | None) -> FetchResult:
        # A page that may need rendering is parsed before it counts as unchanged: what its scripts load may change while
        # the bytes that the server sends do not. So is one of which it is not known where it leads to.
        must_parse = known is not None and (self._must_be_parsed(known) or self._is_only_for_links(request))
        comparable = None if must_parse else known
        http_request = self._doors.with_cookies(outcomes.page_request(request, comparable))
        try:
            response = await self._client.get(http_request)
            if known is not None and known.sha256 and response.status in outcomes.GONE:
                # A deletion needs proof: request it once more before believing it.
                response = await self._client.get(http_request)
            response = await self._doors.enter(http_request, response)
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
        link_header = response.headers.get("link", "")
        is_page = is_html(row.content_type, row.url, response.body)
        page = self._parse_into(row, link_header) if is_page else None
        if (sent_on := self._sent_on(request, response, page)) is not None:
            return FetchResult(sent_on, None if usage_directives.forbids(row.consent, "nofollow") else page)
        if known is not None and known.sha256 and _is_empty(row, page):
            return FetchResult(_with_cost(outcomes.refused(request, "empty_page", None, row.attempts), row))
        if page is not None and self._renderer is not None and self._needs_rendering(page):
            try:
                row, page = await self._render(self._renderer, row, link_header)
            except FetchError as error:
                return FetchResult(outcomes.failed(request, error))
        followed = None if usage_directives.forbids(row.consent, "nofollow") else page
        if usage_directives.forbids(row.consent, "noindex"):
            return FetchResult(outcomes.noindex(request, row), followed)
        return FetchResult(outcomes.mark_unchanged(row, known), followed)

    def _parse_into(self, row: Row, link_header: str) -> ParsedPage:
        """Parse a fetched page and add its robots directives to the row."""
        max_links = self._rules.limits.links_per_page
        page = parse_page(row.body or b"", row.content_type or "", row.url, max_links, link_header)
        row.consent = usage_directives.add_page_directives(row.consent, page.meta_tags, datetime.now(UTC))
        row.shell = page.is_shell if row.shell is None else row.shell
        return page

    def _is_only_for_links(self, request: CrawlRequest) -> bool:
        return request.is_start and not self._discovery.paths.is_included(request.url)

    def _must_be_parsed(self, known: KnownPage) -> bool:
        graph = self._discovery.reach.graph
        if not graph.has(known.key) or graph.is_stored_redirect(known.key):  # its stored links are the redirect's
            return True
        if self._rules.render == "always":
            return True
        return self._rules.render == "auto" and (known.shell is not False or bool(known.rendered))

    def _needs_rendering(self, page: ParsedPage) -> bool:
        return self._rules.render == "always" or page.is_shell

    async def _render(self, renderer: Renderer, row: Row, link_header: str) -> tuple[Row, ParsedPage]:
        """Return the row and the parsed page as rendered, as if the server had sent them so."""
        html = await renderer.render(row.url, row.body or b"", row.content_type or "")
        if len(html) > self._rules.max_body_bytes:
            raise FetchError(
                "too_large", f"more than {self._rules.max_body_bytes} characters when rendered", row.attempts
            )
        filled = outcomes.rendered(row, html)
        return filled, self._parse_into(filled, link_header)

    def _sent_on(self, request: CrawlRequest, response: Response, page: ParsedPage | None) -> Row | None:
        """Return the row of a page that is none but sends its readers on, by a header of its response or by itself."""
        redirect = outcomes.refresh_of(response) or (page.redirect if page is not None else None)
        if redirect is None or redirect.target == request.url:
            return None
        # As if the server had sent them there: for good only where the page names the target as its own address.
        status, headers = 301 if redirect.is_canonical else 302, {**response.headers, "location": redirect.target}
        row = self._redirect(request, replace(response, status=status, headers=headers))
        return row if row.reason else replace_row(row, message=f"{redirect.how} sends its readers on")

    def _redirect(self, request: CrawlRequest, response: Response) -> Row:
        target, why = outcomes.redirect_target(response)
        if target is None:
            return outcomes.refused(request, "invalid_url", why, response.attempts)
        if target in (*request.chain, request.url) or len(request.chain) >= self._rules.max_redirects:
            return outcomes.redirected(request, response, target, "redirect_loop")
        if not request.is_start and not self._discovery.scope.covers(target):
            return outcomes.redirected(request, response, target, "redirect_out_of_scope")
        return outcomes.redirected(request, response, target)


def _without_request(
    request: CrawlRequest, known: KnownPage | None, policy: RobotsPolicy | Refusal, *, may_skip: bool, may_wait: bool
) -> Row | None:
    """Return the row of a URL that robots.txt forbids or that this refresh need not ask for; else None."""
    if (refusal := refusal_of(policy, request.url)) is not None:
        return outcomes.refused(request, refusal.reason, refusal.message)
    if known is not None and known.waits and may_wait:
        return _left_alone(request, known)
    if known is not None and known.sha256 and may_skip:
        return outcomes.skipped(request, known)
    return None


def _left_alone(request: CrawlRequest, known: KnownPage) -> Row:
    """Return the row of a key that is not asked for in this refresh."""
    is_good = known.sha256 is not None and known.outcome in (None, "fetched")
    return outcomes.skipped(request, known) if is_good else outcomes.postponed(request, known)


def _is_empty(row: Row, page: ParsedPage | None) -> bool:
    """Return whether a page shows no text, and its scripts would show none either."""
    if page is None:
        return not (row.body or b"").strip()
    return not page.is_shell and not page.text.strip()


def _with_cost(refusal: Row, row: Row) -> Row:
    refusal.status, refusal.received = row.status, row.received
    return refusal
