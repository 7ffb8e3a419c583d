"""The media types that a crawl keeps."""

from __future__ import annotations

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
PAGE_TYPES = HTML_TYPES | {"text/plain", "text/markdown"}


def media_type(content_type: str) -> str:
    """Return the bare media type: `text/html` for `Text/HTML; charset=utf-8`."""
    return content_type.partition(";")[0].strip().lower()


def is_html(content_type: str | None) -> bool:
    """Return whether a body with this Content-Type, or with none, is parsed as HTML."""
    return media_type(content_type or "text/html") in HTML_TYPES
