"""Every reason code a crawl can give for a URL that gave no new page, each with one line."""

from __future__ import annotations

REJECTED: dict[str, str] = {
    "not_found": "the server says 404 or 410",
    "robots": "robots.txt forbids it",
    "excluded": "the include and exclude globs leave it out",
    "out_of_scope": "an earlier refresh had it, the scope no longer covers it",
    "too_deep": "more links away from a start URL than max_depth",
    "max_pages": "discovered, but max_pages pages had been kept before its turn",
    "content_type": "not HTML, XHTML, plain text or Markdown",
    "too_large": "the body exceeds max_body_bytes, as sent or decompressed",
    "blocked_address": "the host resolves to an address that must not be fetched",
    "redirect_out_of_scope": "it redirects to where the scope does not reach",
    "redirect_loop": "it redirects in a circle or too many times",
    "invalid_url": "not an http(s) URL that can be asked for",
    "erased": "it was erased; kb erase --lift lets it be fetched again",
}
"""The answer is known and asking again gives the same: what a deletion may be concluded from."""

FAILED: dict[str, str] = {
    "timeout": "no byte for timeout_s, or not complete within deadline_s",
    "connection": "refused, reset or not HTTP",
    "dns": "the host name does not resolve",
    "tls": "the certificate or the handshake is not acceptable",
    "truncated": "the body ended before its announced length",
    "decoding": "the body cannot be decompressed",
    "robots_unreachable": "robots.txt gave a server error or no answer, so nothing may be fetched",
    "asked_to_wait": "the host asks to be left alone for longer than a refresh waits (Retry-After, Crawl-delay)",
    "start_failed": "a start URL did not answer, so the scope of this key is not known",
    "http_<status>": "any other status: 401, 403, 429, 5xx, ...",
}
"""It should have worked: nothing is proven, and the last good document must be kept."""

_TRANSIENT = {"timeout", "connection", "dns", "truncated", "robots_unreachable", "start_failed"}
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524}


def is_transient(reason: str) -> bool:
    """Whether asking again soon can help."""
    return reason in _TRANSIENT or (reason.startswith("http_") and is_transient_status(int(reason[5:])))


def is_transient_status(status: int) -> bool:
    """Whether asking again soon can help after an answer with this status."""
    return status in _TRANSIENT_STATUS


def explain(reason: str) -> str:
    """The one line of a reason code."""
    known = REJECTED.get(reason) or FAILED.get(reason)
    return known or FAILED["http_<status>"]
