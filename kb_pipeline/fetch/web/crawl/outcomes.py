"""HostScheduler the answer to one visit into the row that the journal keeps."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from msgspec.structs import replace

from kb_pipeline.fetch.web.crawl.frontier import CrawlRequest
from kb_pipeline.fetch.web.crawl.journal import Row
from kb_pipeline.fetch.web.crawl.known_pages import KnownPage
from kb_pipeline.fetch.web.http.client import FetchError, Request, Response
from kb_pipeline.fetch.web.http.media_types import PAGE_TYPES, media_type
from kb_pipeline.fetch.web.http.ssrf_guard import url_refusal
from kb_pipeline.fetch.web.politeness import usage_directives
from kb_pipeline.fetch.web.reasons import REJECTED, explain
from kb_pipeline.urls import absolute_url, canonical_url

REDIRECTS = frozenset({301, 302, 303, 307, 308})
GONE = frozenset({404, 410})
_KEPT = frozenset({200, 203})
_SNIFFED_BYTES = 1024


def page_request(visit: CrawlRequest, known: KnownPage | None) -> Request:
    """The GET for a visit, conditional when what is known of the page may stay as it is."""
    headers = {}
    if known is not None and known.sha256:
        if known.etag:
            headers["If-None-Match"] = known.etag
        if known.last_modified:
            headers["If-Modified-Since"] = known.last_modified
    return Request(visit.url, headers, media_types=PAGE_TYPES)


def refused(visit: CrawlRequest, reason: str, message: str | None = None, attempts: int = 0) -> Row:
    """The row of a visit that ended with a reason code."""
    outcome = "rejected" if reason in REJECTED else "failed"
    return Row(
        key=visit.url,
        url=visit.url,
        outcome=outcome,
        fetched_at=datetime.now(UTC),
        depth=visit.depth,
        attempts=attempts,
        reason=reason,
        message=message or explain(reason),
    )


def unanswered(visit: CrawlRequest, failure: FetchError) -> Row:
    """The row of a visit whose request got no complete response."""
    return refused(visit, failure.reason, str(failure) or None, failure.attempts)


def answered(visit: CrawlRequest, answer: Response, known: KnownPage | None, said: str | None) -> Row:
    """The row of a visit that got an answer other than a redirect; `said` is what its headers say of its use.

    A page is `fetched` even when its headers forbid keeping it: its links may be followed all the same.
    """
    is_forbidden = usage_directives.forbids(said, "noindex")
    if answer.status == 304 and known is not None and known.sha256:
        row = _unchanged(visit, answer, known, known.sha256, said)
        return not_to_be_kept(visit, row) if is_forbidden else row
    if answer.status in GONE:
        return _with_status(refused(visit, "not_found", f"status {answer.status}", answer.attempts), answer)
    if answer.status not in _KEPT:
        return _with_status(refused(visit, f"http_{answer.status}", None, answer.attempts), answer)
    content_type = answer.headers.get("content-type", "")
    if not _is_page(content_type, answer.body):
        message = f"Content-Type {content_type!r} is not kept"
        return _with_status(refused(visit, "content_type", message, answer.attempts), answer)
    sha256 = hashlib.sha256(answer.body).hexdigest()
    if known is not None and known.sha256 == sha256 and not is_forbidden:
        return _unchanged(visit, answer, known, sha256, said)
    row = _base(visit, answer, "fetched", said)
    row.sha256, row.body = sha256, answer.body
    return row


def rendered(row: Row, html: str) -> Row:
    """The row of a fetched page with what its scripts made of it in place of the bytes that the server sent."""
    body = html.encode("utf-8", "replace")
    content_type, sha256 = "text/html; charset=utf-8", hashlib.sha256(body).hexdigest()
    return replace(row, body=body, sha256=sha256, content_type=content_type, rendered=True)


def compared(row: Row, known: KnownPage | None) -> Row:
    """The row of a page that was looked into first: unchanged if an earlier refresh stored the same."""
    is_same = known is not None and known.sha256 == row.sha256
    return replace(row, outcome="unchanged", body=None) if is_same else row


def not_to_be_kept(visit: CrawlRequest, row: Row) -> Row:
    """The row of a page that asks not to be indexed: the evidence without the body."""
    refusal = refused(visit, "noindex", None, row.attempts)
    return replace(
        refusal,
        url=row.url,
        status=row.status,
        content_type=row.content_type,
        consent=row.consent,
        received=row.received,
    )


def postponed(visit: CrawlRequest, known: KnownPage) -> Row:
    """The row of a page that failed before and is not asked for in this refresh."""
    row = refused(visit, known.reason or "", known.message)
    return replace(row, outcome="failed")


def skipped(visit: CrawlRequest, known: KnownPage) -> Row:
    """The row of a page that was not asked for, since its sitemap says that nothing changed."""
    return Row(
        key=visit.url,
        url=visit.url,
        outcome="unchanged",
        fetched_at=datetime.now(UTC),
        depth=visit.depth,
        sha256=known.sha256,
        consent=known.consent,
    )


def own_redirect(visit: CrawlRequest, answer: Response) -> str | None:
    """The spelling under which a redirect asks for the very page that was asked for; None when it leads elsewhere."""
    location = answer.headers.get("location", "") if answer.status in REDIRECTS else ""
    spelled = absolute_url(location, answer.url) if location else None
    if spelled is None or spelled == answer.url or canonical_url(spelled) != visit.url or url_refusal(spelled):
        return None
    return spelled


def redirect_target(answer: Response) -> tuple[str | None, str]:
    """Where a redirect leads, canonical, or None and why it leads nowhere."""
    location = answer.headers.get("location", "")
    target = canonical_url(location, answer.url) if location else None
    if target is None:
        return None, f"redirects to {location!r}, which is no http(s) URL"
    written = location if "//" in location[:8] and ":" in location[:7] else target
    return (None, f"redirects to {location!r}: {why}") if (why := url_refusal(written)) else (target, "")


def redirected(visit: CrawlRequest, answer: Response, target: str, reason: str | None = None) -> Row:
    """The row of a visit that was sent elsewhere; with a reason, nobody goes there."""
    row = refused(visit, reason, None, answer.attempts) if reason else _base(visit, answer, "redirected")
    return replace(_with_status(row, answer), redirect_to=target)


def _is_page(content_type: str, body: bytes) -> bool:
    if kind := media_type(content_type):
        return kind in PAGE_TYPES
    start = body[:_SNIFFED_BYTES].lower()
    return b"<html" in start or b"<!doctype html" in start


def _base(visit: CrawlRequest, answer: Response, outcome: str, said: str | None = None) -> Row:
    return Row(
        key=visit.url,
        url=answer.url,
        outcome=outcome,
        fetched_at=datetime.now(UTC),
        depth=visit.depth,
        attempts=answer.attempts,
        status=answer.status,
        etag=answer.headers.get("etag"),
        last_modified=answer.headers.get("last-modified"),
        content_type=answer.headers.get("content-type", ""),
        consent=said,
        received=len(answer.body),
    )


def _unchanged(visit: CrawlRequest, answer: Response, known: KnownPage, sha256: str, said: str | None) -> Row:
    row = _base(visit, answer, "unchanged", said)
    # A 304 repeats validators only when they changed.
    row.etag = row.etag or (known.etag if answer.status == 304 else None)
    row.last_modified = row.last_modified or (known.last_modified if answer.status == 304 else None)
    row.content_type = row.content_type or None
    row.sha256 = sha256
    row.consent = usage_directives.renewed(known.consent, said, row.fetched_at)
    return row


def _with_status(row: Row, answer: Response) -> Row:
    content_type = answer.headers.get("content-type")
    return replace(row, url=answer.url, status=answer.status, content_type=content_type, received=len(answer.body))
