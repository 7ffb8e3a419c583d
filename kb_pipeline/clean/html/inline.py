"""Writes inline content as Markdown: emphasis, code spans, links, images."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin, urlsplit

from kb_pipeline.clean.html.maths import is_formula

Element = Any
"""An lxml element; lxml ships no types."""

_SPACE = re.compile(r"[^\S\n]*\n[^\S\n]*|[^\S\n]+")
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
# A lone * or a leading or trailing _ would open emphasis; `<` and `&` only matter where HTML could start.
_ACTIVE = re.compile(r"[`\\]|\*(?=\S)|(?<=\S)\*|(?<!\w)_(?=\S)|(?<=\S)_(?!\w)|<(?=[A-Za-z/!?])|&(?=#?\w+;)|\](?=[(\[])")
_LINE_START = re.compile(r"(?m)^(#{1,6}(?=\s|$)|[-+](?=\s|$)|>|~{3,}|=+$|-{2,}$)")
_ORDINAL_START = re.compile(r"(?m)^(\d{1,9})([.)])(?=\s|$)")

_EMPHASIS = {"em": "*", "i": "*", "cite": "*", "dfn": "*", "var": "*", "strong": "**", "b": "**"}
_CODE = frozenset({"code", "kbd", "samp", "tt"})
_LINKABLE = frozenset({"http", "https", "mailto", "ftp"})


class InlineWriter:
    """Turns inline elements into Markdown and counts the links it writes."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.links = 0
        self._is_linking = True
        self._is_in_link = False

    def children(self, element: Element) -> str:
        """Return the Markdown of an element's content, with spaces not yet collapsed."""
        pieces = [escape_text(element.text)]
        for child in element:
            pieces.append(self.element(child))
            pieces.append(escape_text(child.tail))
        return join_inline(pieces)

    def without_links(self, element: Element) -> str:
        """Return the Markdown of an element's content without links: those of a heading lead to the heading itself."""
        self._is_linking = False
        try:
            return self.children(element)
        finally:
            self._is_linking = True

    def element(self, element: Element) -> str:
        """Return the Markdown of one inline element."""
        tag = element.tag
        if tag == "br":
            return "\n"
        if tag in _CODE:
            return code_span(flat_text(element))
        if tag == "img":
            return self._image(element)
        if is_formula(element):
            return _formula(element)
        if tag == "a":
            return self._link(self._label(element), element.get("href"))
        inner = self.children(element)
        if tag in _EMPHASIS:
            return _emphasize(inner, _EMPHASIS[tag])
        if tag == "q":
            return _quoted(inner)
        if tag == "sub":
            return inner.removeprefix("\\")
        return _strike(inner) if tag == "del" else inner

    def _label(self, link: Element) -> str:
        """Return the text of a link without images, which its words describe."""
        self._is_in_link, was_in_link = True, self._is_in_link
        try:
            return self.children(link)
        finally:
            self._is_in_link = was_in_link

    def _link(self, inner: str, href: str | None) -> str:
        url = absolute_url(href, self.base_url)
        label = collapse(inner).replace("\n", " ")
        # Markdown has no links around links or without a label.
        if not self._is_linking or not url or not label or "](" in label:
            return inner
        self.links += 1
        return _with_outer_spaces(inner, f"[{label}]({url})")

    def _image(self, element: Element) -> str:
        alt = collapse(escape_text(element.get("alt"))).replace("\n", " ")
        if not alt or self._is_in_link:
            return ""
        url = absolute_url(element.get("src"), self.base_url)
        return f"![{alt}]({url})" if url else alt


def _formula(element: Element) -> str:
    """Return a formula as it is; a displayed one on a line of its own."""
    text = str(element.text)
    return f"\n{text}\n" if text.startswith("$$") else text


def escape_text(raw: str | None) -> str:
    """Return a text node with white space collapsed to single spaces and Markdown's active characters escaped."""
    if not raw:
        return ""
    flat = re.sub(r"\s+", " ", _INVISIBLE.sub("", raw))
    return _ACTIVE.sub(lambda found: "\\" + found[0], flat)


def flat_text(element: Element) -> str:
    """Return the plain text of an element on one line, not escaped."""
    return re.sub(r"\s+", " ", _INVISIBLE.sub("", "".join(element.itertext()))).strip()


def collapse(markdown: str) -> str:
    """Collapse white space in a paragraph to single spaces or line breaks, and strip it."""
    return _SPACE.sub(lambda found: "\n" if "\n" in found[0] else " ", markdown).strip()


def paragraph(markdown: str) -> str:
    """Escape a paragraph's lines so that none is read as a heading, list item or quote; empty lines stay."""
    lines = collapse(markdown)
    return _ORDINAL_START.sub(r"\1\\\2", _LINE_START.sub(r"\\\1", lines))


def code_span(code: str) -> str:
    """Return a code span with more backticks than any run inside."""
    if not code:
        return ""
    ticks = "`" * (longest_run(code) + 1)
    pad = " " if code.startswith("`") or code.endswith("`") else ""
    return f"{ticks}{pad}{code}{pad}{ticks}"


def longest_run(code: str) -> int:
    """Return the length of the longest run of backticks."""
    return max((len(run) for run in re.findall(r"`+", code)), default=0)


def absolute_url(href: str | None, base_url: str) -> str | None:
    """Return a link's absolute URL, escaped for Markdown; None for scripts, inline data and invalid URLs."""
    try:
        url = urljoin(base_url, _INVISIBLE.sub("", href or "").strip())
        parts = urlsplit(url)
    except ValueError:
        return None
    if not href or parts.scheme not in _LINKABLE or (parts.scheme != "mailto" and not parts.netloc):
        return None
    return re.sub(r"[\s()<>\\]", lambda found: f"%{ord(found[0]):02X}" if found[0] < "\x7f" else "%20", url)


def _emphasize(inner: str, mark: str) -> str:
    """Put emphasis marks inside the outer spaces; code and emphasized text stay as they are."""
    core = collapse(inner)
    if not core or "\n" in core or core[0] in "`*" or core[-1] in "`*":
        return inner
    return _with_outer_spaces(inner, f"{mark}{core}{mark}")


def _strike(inner: str) -> str:
    """Put a line through a text, once where several are nested."""
    core = collapse(inner).replace("\n", " ").replace("~~", "")
    return _with_outer_spaces(inner, f"~~{core}~~") if core else inner


def _with_outer_spaces(inner: str, core: str) -> str:
    """Return the new core with a space at each end where the old one had white space."""
    before = " " if inner[:1].isspace() else ""
    after = " " if inner[-1:].isspace() else ""
    return f"{before}{core}{after}"


def _quoted(inner: str) -> str:
    """Return a quotation in quotation marks; one inside it in single ones."""
    core = inner.strip()
    nested = re.sub(r'(?<!\w)"([^"]*)"(?!\w)', r"'\1'", core)
    return _with_outer_spaces(inner, f'"{nested}"') if core else inner


def join_inline(pieces: list[str]) -> str:
    """Join the pieces, with a space where two code spans would merge; no piece becomes the link of the one before."""
    out: list[str] = []
    for piece in pieces:
        if out and piece[:1] == "`" and out[-1][-1:] == "`":
            out.append(" ")
        elif out and piece[:1] == "(" and out[-1][-1:] == "]":
            out.append("\\")
        if piece:
            out.append(piece)
    return "".join(out)
