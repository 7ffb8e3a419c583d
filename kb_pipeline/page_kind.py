"""Says what a body is to be read as: HTML, XHTML, Markdown or text; one judgement for crawler and cleaner."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from kb_pipeline.charset import UTF16_BOMS, is_binary
from kb_pipeline.media_types import media_type

Kind = Literal["html", "xhtml", "markdown", "text"]

_XML_TYPES = frozenset({"text/xml", "application/xml"})
_MARKDOWN_TYPES = """
    text/markdown text/x-markdown application/markdown application/x-markdown text/x-web-markdown
    text/vnd.daringfireball.markdown text/md text/x-md text/x-gfm
"""
_TEXT_TYPES = """
    text/plain text/x-rst text/rst text/prs.fallenstein.rst text/x-restructuredtext text/restructured
    text/asciidoc text/x-asciidoc text/org text/x-org text/x-readme
"""
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("text/html", "application/html"), "html"),
    **dict.fromkeys(("application/xhtml+xml", "application/vnd.wap.xhtml+xml"), "xhtml"),
    **dict.fromkeys(_MARKDOWN_TYPES.split(), "markdown"),
    **dict.fromkeys(_TEXT_TYPES.split(), "text"),
}
_UNTYPED_TEXT = """
    application/octet-stream binary/octet-stream application/x-octet-stream application/x-unknown
    application/unknown unknown/unknown application/download application/force-download */*
"""
_UNTYPED = frozenset(_UNTYPED_TEXT.split())
_SUFFIXES: dict[str, Kind] = {
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd", ".mkdn", ".mdwn", ".mdx", ".qmd"), "markdown"),
    **dict.fromkeys((".txt", ".text", ".rst", ".adoc", ".asciidoc", ".org", ".log"), "text"),
    **dict.fromkeys((".html", ".htm", ".xhtml", ".xht", ".shtml"), "html"),
}
_MARKDOWN_NAMES = frozenset({"llms.txt", "llms-full.txt"})
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,7}\Z")

_BEFORE_START = re.compile(r"(?:\s+|<!--.*?(?:-->|\Z)|<\?[^>]{0,500}>)*+", re.S)
# WHATWG MIME Sniffing, 7.1, and what else only HTML begins with.
_HTML_START = re.compile(
    r"<(?:!doctype\s+html|html|head|body|title|meta|link|script|style|iframe|main|article|section|header|div|p|h[1-6]"
    r"|font|table|ul|ol|a|b|br|center|frameset)(?=[\s/>])",
    re.I,
)
_PAGE_START = re.compile(r"<(?:!doctype\s+html|html|head|body|frameset)(?=[\s/>])", re.I)
_DOCTYPE = re.compile(r"<!doctype\s+html\b[^>\[]{0,500}(?:\[[^\]]{0,5000}\]\s*)?>", re.I)
_XHTML_ROOT = re.compile(r"<(?:\w{1,50}:)?html\b", re.I)
_SNIFFED_BYTES = 65_536


def may_be_page(content_type: str, url: str) -> bool:
    """Return whether a body is worth its download, by what comes before it; `kind_of` judges the body itself.

    A download without a type of its own is one if its name is that of a text, or has no suffix.
    """
    stated = media_type(content_type)
    if stated in _UNTYPED:
        suffix = _SUFFIX.search(_name(url))
        return suffix is None or suffix[0].lower() in _SUFFIXES
    return not stated or stated in _KINDS or stated in _XML_TYPES


def kind_of(content_type: str, url: str, body: bytes) -> Kind | None:
    """Return what a body is to be read as; None for what is no page.

    Args:
        content_type: the header as sent, possibly empty or wrong.
        url: where it came from: the name of a file tells Markdown from text.
        body: the bytes, looked at where the header does not say.
    """
    stated, suffix = media_type(content_type), _suffix_kind(url)
    if stated == "text/plain":
        return "markdown" if suffix == "markdown" else "text"
    if stated in _KINDS:
        return _KINDS[stated]
    if stated in _XML_TYPES:
        return "xhtml" if _is_xhtml(_start(body)) else None
    return None if stated and stated not in _UNTYPED else _sniffed(body, suffix)


def is_html(content_type: str | None, url: str, body: bytes) -> bool:
    """Return whether a body is a page of HTML, as XML or not."""
    return kind_of(content_type or "", url, body) in ("html", "xhtml")


def _sniffed(body: bytes, suffix: Kind | None) -> Kind | None:
    """Return what a body of no stated type begins as (WHATWG MIME Sniffing, 7.1)."""
    if not body:
        return None
    start = _start(body)
    opening = start[_end_of_opening(start) :]
    if _PAGE_START.match(opening):
        return "xhtml" if start.lstrip().startswith("<?xml") else "html"
    if is_binary(body) or start.lstrip().startswith(("<?xml", "%PDF-", "%!PS-Adobe-")):
        return None
    if suffix in ("markdown", "text"):
        return suffix
    return "html" if _HTML_START.match(opening) else "text"


def _is_xhtml(start: str) -> bool:
    position = _end_of_opening(start)
    if doctype := _DOCTYPE.match(start, position):
        position = doctype.end() + _end_of_opening(start[doctype.end() :])
    return _XHTML_ROOT.match(start, position) is not None


def _end_of_opening(start: str) -> int:
    """Return where white space, comments and processing instructions end."""
    opening = _BEFORE_START.match(start)
    return opening.end() if opening else 0


def _start(body: bytes) -> str:
    """Return the beginning of a body, of which only ASCII matters."""
    codec = "utf-16" if body.startswith(UTF16_BOMS) else "latin-1"
    return body[:_SNIFFED_BYTES].decode(codec, "replace").removeprefix("\xef\xbb\xbf")


def _suffix_kind(url: str) -> Kind | None:
    name = _name(url).lower()
    return "markdown" if name in _MARKDOWN_NAMES else _SUFFIXES.get(PurePosixPath(name).suffix)


def _name(url: str) -> str:
    try:
        return unquote(urlsplit(url).path).rpartition("/")[2]
    except ValueError:
        return ""
