"""Makes one visit: asks whether it may, asks for the page, and says what became of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kb_pipeline.fetch.web.crawl import outcomes
from kb_pipeline.fetch.web.crawl.frontier import CrawlRequest
from kb_pipeline.fetch.web.crawl.journal import Row
from kb_pipeline.fetch.web.crawl.known_pages import KnownPage
from kb_pipeline.fetch.web.crawl.link_policy import Discovery
from kb_pipeline.fetch.web.crawl.page_quota import Allowance
from kb_pipeline.fetch.web.crawl.robots_cache import RobotsFiles
from kb_pipeline.fetch.web.http.client import FetchError, PoliteClient, Response
from kb_pipeline.fetch.web.http.media_types import is_html
from kb_pipeline.fetch.web.parse.html_links import ParsedPage, read_page
from kb_pipeline.fetch.web.politeness import usage_directives
from kb_pipeline.fetch.web.rules import CrawlRules
from kb_pipeline.model import document_id

if TYPE_CHECKING:
    from kb_pipeline.fetch.web.crawl.browser import Renderer


@dataclass(frozen=True, slots=True)
class Visited:
    """What a visit gave."""

    row: Row
    facts: ParsedPage | None = None
    """What the page says, when it was fetched and is HTML; None as well where its links are not to be followed."""


class PageFetcher:
    """Visits the URLs of one crawl."""

    def __init__(
        self,
        rules: CrawlRules,
        client: PoliteClient,
        robots: RobotsFiles,
        discovery: Discovery,
        renderer: Renderer | None,
        allowance: Allowance,
    ) -> None:
        self._allowance = allowance
        self._rules, self._client, self._robots, self._discovery = rules, client, robots, discovery
        self._renderer = renderer
        self._erased = frozenset(rules.erased)
        self.starts_failed = False
        """Whether a start URL gave no answer: how far the scope reaches is then not known."""

    async def visit(self, visit: CrawlRequest, known: KnownPage | None, *, may_skip: bool, may_wait: bool) -> Visited:
        """The end of one URL; raises Stopped.

        Args:
            visit: the URL.
            known: what an earlier refresh knows of it.
            may_skip: whether a page that is kept need not be asked for.
            may_wait: whether one that is not due need not be.
        """
        if (refusal := await self._refusal(visit)) is not None:
            return Visited(refusal)
        if known is not None and known.waits and may_wait:
            return Visited(outcomes.postponed(visit, known) if known.reason else outcomes.skipped(visit, known))
        if known is not None and known.sha256 and may_skip:
            return Visited(outcomes.skipped(visit, known))
        if not await self._allowance.spend():
            return Visited(outcomes.refused(visit, "quota"))
        visited = await self._ask(visit, known)
        if not visited.row.attempts:
            self._allowance.give_back()
        if visited.row.outcome == "fetched" and visit.is_start and not self._discovery.paths.is_included(visit.url):
            # The include globs leave the start page out, yet its links are how the crawl begins.
            message = "start URL, fetched for its links only"
            row = outcomes.refused(visit, "excluded", message, visited.row.attempts)
            row.received = visited.row.received
            return replace(visited, row=row)
        return visited

    def facts_of(self, row: Row) -> ParsedPage | None:
        """What a fetched page says, unless its links are not to be followed."""
        if not is_html(row.content_type) or usage_directives.forbids(row.consent, "nofollow"):
            return None
        return read_page(row.body or b"", row.content_type or "", row.url, self._rules.limits.links_per_page)

    async def _refusal(self, visit: CrawlRequest) -> Row | None:
        discovery = self._discovery
        if self._erased and document_id(self._rules.source, visit.url) in self._erased:
            return outcomes.refused(visit, "erased")
        if not discovery.scope.covers(visit.url):
            return outcomes.refused(visit, "start_failed" if self.starts_failed else "out_of_scope")
        if discovery.paths.is_excluded(visit.url) or not (visit.is_start or discovery.paths.is_included(visit.url)):
            return outcomes.refused(visit, "excluded")
        if visit.depth > self._rules.max_depth:
            return outcomes.refused(visit, "too_deep")
        refusal = await self._robots.refusal(visit.url)
        if refusal is not None:
            return outcomes.refused(visit, refusal.reason, refusal.message)
        return outcomes.refused(visit, "repetitive") if discovery.is_repetitive_enough(visit) else None

    async def _ask(self, visit: CrawlRequest, known: KnownPage | None) -> Visited:
        # A page that scripts may have to fill is looked into before it is called unchanged: what they fill in may
        # change while the bytes that the server sends do not.
        comparable = None if known is not None and self._may_need_rendering(known) else known
        request = outcomes.page_request(visit, comparable)
        try:
            answer = await self._client.get(request)
            if known is not None and known.sha256 and answer.status in outcomes.GONE:
                # A deletion needs proof: ask once more before believing it.
                answer = await self._client.get(request)
            if (spelled := outcomes.own_redirect(visit, answer)) and await self._robots.refusal(spelled) is None:
                # To itself with a session id or a tracker: the page is there, its key stays without.
                answer = await self._client.get(replace(request, url=spelled))
        except FetchError as failure:
            return Visited(outcomes.unanswered(visit, failure))
        if answer.status in outcomes.REDIRECTS:
            return Visited(self._redirect(visit, answer))
        said = usage_directives.of_response(answer.headers, self._robots.signals(visit.url), datetime.now(UTC))
        row = outcomes.answered(visit, answer, comparable, said)
        if row.outcome != "fetched":
            return Visited(row)
        facts = self._read(row) if is_html(row.content_type) else None
        if facts is not None and self._renderer is not None and self._needs_rendering(facts):
            try:
                row, facts = await self._render(self._renderer, row)
            except FetchError as failure:
                return Visited(outcomes.unanswered(visit, failure))
        followed = None if usage_directives.forbids(row.consent, "nofollow") else facts
        if usage_directives.forbids(row.consent, "noindex"):
            return Visited(outcomes.not_to_be_kept(visit, row), followed)
        return Visited(outcomes.compared(row, known), followed)

    def _read(self, row: Row) -> ParsedPage:
        """What a fetched page says; what it says of its use is added to the row."""
        facts = read_page(row.body or b"", row.content_type or "", row.url, self._rules.limits.links_per_page)
        row.consent = usage_directives.with_page(row.consent, facts.metas, datetime.now(UTC))
        row.shell = facts.is_shell if row.shell is None else row.shell
        return facts

    def _may_need_rendering(self, known: KnownPage) -> bool:
        if self._rules.render == "always":
            return True
        return self._rules.render == "auto" and (known.shell is not False or bool(known.rendered))

    def _needs_rendering(self, facts: ParsedPage) -> bool:
        return self._rules.render == "always" or facts.is_shell

    async def _render(self, renderer: Renderer, row: Row) -> tuple[Row, ParsedPage]:
        """The page as its scripts made it, read as if the server had sent it so."""
        html = await renderer.render(row.url, row.body or b"", row.content_type or "")
        if len(html) > self._rules.max_body_bytes:
            raise FetchError(
                "too_large", f"more than {self._rules.max_body_bytes} characters when rendered", row.attempts
            )
        filled = outcomes.rendered(row, html)
        return filled, self._read(filled)

    def _redirect(self, visit: CrawlRequest, answer: Response) -> Row:
        target, why = outcomes.redirect_target(answer)
        if target is None:
            return outcomes.refused(visit, "invalid_url", why, answer.attempts)
        if target in (*visit.chain, visit.url) or len(visit.chain) >= self._rules.max_redirects:
            return outcomes.redirected(visit, answer, target, "redirect_loop")
        if not visit.is_start and not self._discovery.scope.covers(target):
            return outcomes.redirected(visit, answer, target, "redirect_out_of_scope")
        return outcomes.redirected(visit, answer, target)
