"""The reason codes of URLs that gave no new page, each with one line of explanation."""

from __future__ import annotations

from kb_pipeline.fetch.source import ERASED, ERASED_MESSAGE, QUOTA, QUOTA_MESSAGE

REJECTED: dict[str, str] = {
    "not_found": "the server says 404 or 410",
    "robots": "robots.txt forbids it",
    "excluded": "the include and exclude globs leave it out",
    "out_of_scope": "an earlier refresh had it, the scope no longer covers it",
    "too_deep": "more links away from a start URL than max_depth",
    "max_pages": "max_pages pages nearer to the start URLs, or met before it, are kept",
    "unlinked": "since the KB file was edited, nothing that its rules cover leads to it",
    "content_type": "not HTML, XHTML, plain text or Markdown",
    "too_large": "the body exceeds max_body_bytes, as sent or decompressed",
    "blocked_address": "the host resolves to an address that must not be fetched",
    "redirect_out_of_scope": "it redirects to where the scope does not reach",
    "redirect_loop": "it redirects in a circle or too many times",
    "invalid_url": "not an http(s) URL that can be asked for",
    "noindex": "its response or its meta element asks to keep it out of any index",
    "path_too_long": "its path has more segments than limits.path_segments",
    "path_repetition": "its path has the same folders three times in a row, and others like it led to nothing new",
    "directory_limit": "limits.per_directory URLs of its folder led to nothing new",
    "query_limit": "limits.per_query_pattern URLs of its path and parameters led to nothing new",
    "repetitive": "URLs of its pattern were visited and led to nothing new",
    ERASED: ERASED_MESSAGE,
}
"""Reasons that a repeated request would confirm: proof enough for a deletion."""

REFUSALS = (
    "not_found", "content_type", "too_large", "redirect_out_of_scope", "redirect_loop", "invalid_url", "noindex",
)  # fmt: skip
"""Reasons that come from the server, which may say otherwise another time; the others come from our own rules."""

ENDED_BY_FILE = ("too_deep", "max_pages", "unlinked")
"""Reasons by which an edited KB file ends a document: the KB then has what a new one of that file would have."""
MOVED = frozenset({301, 308})
"""A permanent redirect moves a document; a temporary one (a login page, say) proves nothing."""

FAILED: dict[str, str] = {
    "timeout": "no byte for timeout_s",
    "too_slow": "not complete within deadline_s",
    "render_timeout": "its scripts did not come to rest within render_timeout_s",
    "render_memory": "its scripts took more memory than the browser may have",
    "render_failed": "the browser could not open it",
    "headers_too_large": "the response's headers exceed max_header_bytes",
    "connection": "refused, reset or not HTTP",
    "dns": "the host name does not resolve",
    "tls": "the certificate or the handshake is not acceptable",
    "truncated": "the body ended before its announced length",
    "decoding": "the body cannot be decompressed",
    "robots_unreachable": "robots.txt gave a server error or no answer, so nothing may be fetched",
    "asked_to_wait": "the host asks to be left alone for longer than a refresh waits (Retry-After, Crawl-delay)",
    "empty_page": "it came without any text, though an earlier refresh got one",
    "moved_to_nothing": "it redirects for good to what gave no page",
    "start_failed": "a start URL did not answer, so the scope of this key is not known",
    QUOTA: QUOTA_MESSAGE,
    "http_<status>": "any other status: 401, 403, 429, 5xx, ...",
}
"""Reasons that prove nothing: the last good document must be kept."""

PROBLEMS: dict[str, str] = {
    "too_many_links": "the links of a page beyond limits.links_per_page are not followed",
    "sitemap_invalid": "the file is no sitemap or feed",
    "sitemap_too_large": "the entries beyond the limits of a sitemap, or of all of them, are not read",
    "sitemap_too_deep": "sitemaps nested deeper than three are not read",
    "sitemap_loop": "a sitemap names itself, or one that leads to it",
}
"""Problems that an operator should know of, though the crawl goes on."""

_TRANSIENT = {"timeout", "too_slow", "connection", "dns", "truncated", "robots_unreachable", "start_failed"}
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524}


def is_transient(reason: str) -> bool:
    """Return whether a retry can help soon."""
    return reason in _TRANSIENT or (reason.startswith("http_") and is_transient_status(int(reason[5:])))


def is_proven(reason: str) -> bool:
    """Return whether a repeated request would give the same result."""
    return reason in REJECTED or reason in PROBLEMS


def is_transient_status(status: int) -> bool:
    """Return whether a retry can help soon after a response with this status."""
    return status in _TRANSIENT_STATUS


def explain(reason: str) -> str:
    """Return the explanation of a reason code."""
    known = REJECTED.get(reason) or FAILED.get(reason) or PROBLEMS.get(reason)
    return known or FAILED["http_<status>"]
