"""Which kinds of content a crawl keeps."""

from __future__ import annotations

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
PAGE_TYPES = HTML_TYPES | {"text/plain", "text/markdown"}


def media_type(content_type: str) -> str:
    """`text/html` of `Text/HTML; charset=utf-8`."""
    return content_type.partition(";")[0].strip().lower()


def is_html(content_type: str | None) -> bool:
    """Whether a body of this type, or of none, is read as HTML."""
    return media_type(content_type or "text/html") in HTML_TYPES
