"""Turns the response to one request into the row that the journal keeps."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from msgspec.structs import replace

from kb_pipeline.fetch.source import PROOF_OF_ABSENCE
from kb_pipeline.fetch.web.crawl.frontier import CrawlRequest
from kb_pipeline.fetch.web.crawl.journal import Row
from kb_pipeline.fetch.web.crawl.known_pages import KnownPage
from kb_pipeline.fetch.web.http.client import FetchError, Request, Response
from kb_pipeline.fetch.web.http.ssrf_guard import url_refusal
from kb_pipeline.fetch.web.parse.stubs import PageRedirect
from kb_pipeline.fetch.web.politeness import usage_directives
from kb_pipeline.fetch.web.reasons import ENDED_BY_FILE, MOVED, REFUSALS, REJECTED, explain
from kb_pipeline.page_kind import kind_of, may_be_page
from kb_pipeline.page_redirects import LONGEST_DELAY_S, read_refresh
from kb_pipeline.urls import absolute_url, canonical_url

REDIRECTS = frozenset({301, 302, 303, 307, 308})
GONE = frozenset({404, 410})
_KEPT = frozenset({200, 203})


def ends_document(row: Row) -> bool:
    """Return whether a row ends the document of a stored page; see also PROOF_OF_ABSENCE and WebColumns.gone."""
    if row.outcome == "redirected":
        return row.status in MOVED
    return row.outcome == "rejected" and row.reason in (*PROOF_OF_ABSENCE, *ENDED_BY_FILE)


def leads_nowhere(outcome: str, reason: str | None) -> bool:
    """Return whether the links of a page with this outcome, if any were stored, are not followed any more."""
    return outcome == "rejected" and (reason == "not_found" or reason not in REFUSALS)


def page_request(request: CrawlRequest, known: KnownPage | None) -> Request:
    """Return the GET for a URL, conditional when the stored page may be unchanged."""
    headers = {}
    if known is not None and known.sha256:
        if known.etag:
            headers["If-None-Match"] = known.etag
        if known.last_modified:
            headers["If-Modified-Since"] = known.last_modified
    return Request(request.url, headers, pages_only=True)


def refused(request: CrawlRequest, reason: str, message: str | None = None, attempts: int = 0) -> Row:
    """Return the row of a URL that ended with a reason code."""
    outcome = "rejected" if reason in REJECTED else "failed"
    return Row(
        key=request.url,
        url=request.url,
        outcome=outcome,
        fetched_at=datetime.now(UTC),
        depth=request.depth,
        attempts=attempts,
        reason=reason,
        message=message or explain(reason),
    )


def failed(request: CrawlRequest, error: FetchError) -> Row:
    """Return the row of a URL whose request got no complete response."""
    return refused(request, error.reason, str(error) or None, error.attempts)


def from_response(request: CrawlRequest, response: Response, known: KnownPage | None, evidence: str | None) -> Row:
    """Return the row of a URL from a response that is no redirect.

    A page is `fetched` even when its headers forbid keeping it: its links may be followed all the same.

    Args:
        request: the URL.
        response: the response to it.
        known: what an earlier refresh stored of it, to be compared with.
        evidence: the robots directives in the response's headers; see usage_directives.
    """
    is_forbidden = usage_directives.forbids(evidence, "noindex")
    if response.status == 304 and known is not None and known.sha256:
        row = _unchanged(request, response, known, known.sha256, evidence)
        return noindex(request, row) if is_forbidden else row
    if response.status in GONE:
        return _with_status(refused(request, "not_found", f"status {response.status}", response.attempts), response)
    if response.status not in _KEPT:
        return _with_status(refused(request, f"http_{response.status}", None, response.attempts), response)
    content_type = response.headers.get("content-type", "")
    if not _is_page(content_type, response):
        message = f"Content-Type {content_type!r} is not kept" if content_type else "no Content-Type, and it is no text"
        return _with_status(refused(request, "content_type", message, response.attempts), response)
    sha256 = hashlib.sha256(response.body).hexdigest()
    if known is not None and known.sha256 == sha256 and not is_forbidden:
        return _unchanged(request, response, known, sha256, evidence)
    row = _base(request, response, "fetched", evidence)
    row.sha256, row.body = sha256, response.body
    return row


def rendered(row: Row, html: str) -> Row:
    """Return the row of a fetched page with its rendered HTML in place of the bytes that the server sent."""
    body = html.encode("utf-8", "replace")
    content_type, sha256 = "text/html; charset=utf-8", hashlib.sha256(body).hexdigest()
    return replace(row, body=body, sha256=sha256, content_type=content_type, rendered=True)


def mark_unchanged(row: Row, known: KnownPage | None) -> Row:
    """Return the row of a fetched page, as unchanged if an earlier refresh stored the same bytes."""
    is_same = known is not None and known.sha256 == row.sha256
    return replace(row, outcome="unchanged", body=None) if is_same else row


def noindex(request: CrawlRequest, row: Row) -> Row:
    """Return the row of a page that forbids indexing: the evidence without the body."""
    refusal = refused(request, "noindex", None, row.attempts)
    return replace(
        refusal,
        url=row.url,
        status=row.status,
        content_type=row.content_type,
        consent=row.consent,
        received=row.received,
    )


def postponed(request: CrawlRequest, known: KnownPage) -> Row:
    """Return the row of a key that failed or was refused before and is not requested in this refresh."""
    row = refused(request, known.reason or "", known.message)
    return replace(
        row,
        outcome=known.outcome or "failed",
        reason=known.reason,
        message=known.message,
        status=known.status,
        redirect_to=known.redirect_to,
        consent=known.consent,
    )


def left_over(request: CrawlRequest, known: KnownPage | None, reason: str) -> Row:
    """Return the row of a key whose turn did not come; what the server refused before is not known to be otherwise."""
    was_refused = known is not None and known.sha256 is None and known.was_asked
    return postponed(request, known) if known is not None and was_refused else refused(request, reason)


def skipped(request: CrawlRequest, known: KnownPage) -> Row:
    """Return the row of a page that was not requested because it is not due or its sitemap says it is unchanged."""
    return Row(
        key=request.url,
        url=request.url,
        outcome="unchanged",
        fetched_at=datetime.now(UTC),
        depth=request.depth,
        sha256=known.sha256,
        consent=known.consent,
    )


def self_redirect(request: CrawlRequest, response: Response) -> str | None:
    """Return the other spelling of the same URL that a redirect leads to; None when it leads elsewhere."""
    location = response.headers.get("location", "") if response.status in REDIRECTS else ""
    spelled = absolute_url(location, response.url) if location else None
    if spelled is None or spelled == response.url or canonical_url(spelled) != request.url or url_refusal(spelled):
        return None
    return spelled


def redirect_target(response: Response) -> tuple[str | None, str]:
    """Return the canonical target of a redirect, or None and why it has none."""
    location = response.headers.get("location", "")
    target = canonical_url(location, response.url) if location else None
    if target is None:
        return None, f"redirects to {location!r}, which is no http(s) URL"
    written = location if "//" in location[:8] and ":" in location[:7] else target
    return (None, f"redirects to {location!r}: {why}") if (why := url_refusal(written)) else (target, "")


def refresh_of(response: Response) -> PageRedirect | None:
    """Return where a `Refresh` header sends readers on to in time to be a redirect, unless that is the page itself."""
    refresh = read_refresh(response.headers.get("refresh", ""))
    if refresh is None or refresh[0] > LONGEST_DELAY_S or not refresh[1]:
        return None
    target, page = canonical_url(refresh[1], response.url), canonical_url(response.url)
    return PageRedirect(target, "a Refresh header", is_canonical=False) if target and target != page else None


def redirected(request: CrawlRequest, response: Response, target: str, reason: str | None = None) -> Row:
    """Return the row of a URL that redirects; with a reason, the redirect is not followed."""
    row = refused(request, reason, None, response.attempts) if reason else _base(request, response, "redirected")
    return replace(_with_status(row, response), redirect_to=target)


def _is_page(content_type: str, response: Response) -> bool:
    if not may_be_page(content_type, response.url):
        return False  # its body was not downloaded
    return kind_of(content_type, response.url, response.body) is not None


def _base(request: CrawlRequest, response: Response, outcome: str, evidence: str | None = None) -> Row:
    return Row(
        key=request.url,
        url=response.url,
        outcome=outcome,
        fetched_at=datetime.now(UTC),
        depth=request.depth,
        attempts=response.attempts,
        status=response.status,
        etag=response.headers.get("etag"),
        last_modified=response.headers.get("last-modified"),
        content_type=response.headers.get("content-type", ""),
        consent=evidence,
        received=len(response.body),
    )


def _unchanged(request: CrawlRequest, response: Response, known: KnownPage, sha256: str, evidence: str | None) -> Row:
    row = _base(request, response, "unchanged", evidence)
    # A 304 repeats validators only when they changed.
    row.etag = row.etag or (known.etag if response.status == 304 else None)
    row.last_modified = row.last_modified or (known.last_modified if response.status == 304 else None)
    row.content_type = row.content_type or None
    row.sha256 = sha256
    row.consent = usage_directives.keep_page_directives(known.consent, evidence, row.fetched_at)
    return row


def _with_status(row: Row, response: Response) -> Row:
    content_type = response.headers.get("content-type")
    return replace(
        row, url=response.url, status=response.status, content_type=content_type, received=len(response.body)
    )
