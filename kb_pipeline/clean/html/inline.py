"""Writes the inside of a paragraph as Markdown: emphasis, code spans, links, images."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin, urlsplit

Element = Any
"""An lxml element; lxml ships no types."""

_SPACE = re.compile(r"[^\S\n]*\n[^\S\n]*|[^\S\n]+")
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
# A lone * or a leading or trailing _ would open emphasis; `<` and `&` only matter where HTML could begin.
_ACTIVE = re.compile(r"[`\\]|\*(?=\S)|(?<=\S)\*|(?<!\w)_(?=\S)|(?<=\S)_(?!\w)|<(?=[A-Za-z/!?])|&(?=#?\w+;)|\](?=[(\[])")
_LINE_START = re.compile(r"(?m)^(#{1,6}(?=\s|$)|[-+](?=\s|$)|>|~{3,}|=+$|-{2,}$)")
_ORDINAL_START = re.compile(r"(?m)^(\d{1,9})([.)])(?=\s|$)")
_POWER = re.compile(r"[-+−]?(\d{1,4}|[a-z])")

_EMPHASIS = {"em": "*", "i": "*", "cite": "*", "dfn": "*", "var": "*", "strong": "**", "b": "**"}
_CODE = frozenset({"code", "kbd", "samp", "tt"})
_LINKABLE = frozenset({"http", "https", "mailto", "ftp"})


class InlineWriter:
    """HostScheduler inline elements into Markdown and counts the links it writes."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.links = 0
        self._is_linking = True

    def children(self, element: Element) -> str:
        """The Markdown of all that is inside an element, spaces not yet collapsed."""
        pieces = [text(element.text)]
        for child in element:
            pieces.append(self.element(child))
            pieces.append(text(child.tail))
        return _joined(pieces)

    def without_links(self, element: Element) -> str:
        """The same for a heading: a link on a title leads to the title itself."""
        self._is_linking = False
        try:
            return self.children(element)
        finally:
            self._is_linking = True

    def element(self, element: Element) -> str:
        """The Markdown of one inline element."""
        tag = element.tag
        if tag == "br":
            return "\n"
        if tag in _CODE:
            return code_span(flat_text(element))
        if tag == "img":
            return self._image(element)
        inner = self.children(element)
        if tag == "a":
            return self._link(inner, element.get("href"))
        if tag in _EMPHASIS:
            return _wrapped(inner, _EMPHASIS[tag])
        return _annotated(tag, inner)

    def _link(self, inner: str, href: str | None) -> str:
        url = absolute_url(href, self.base_url)
        label = collapse(inner).replace("\n", " ")
        # A link around a link, or around nothing, cannot be written.
        if not self._is_linking or not url or not label or "](" in label:
            return inner
        self.links += 1
        return _around(inner, f"[{label}]({url})")

    def _image(self, element: Element) -> str:
        alt = collapse(text(element.get("alt"))).replace("\n", " ")
        parent = element.getparent()
        url = absolute_url(element.get("src"), self.base_url)
        if not alt or not url or (parent is not None and parent.tag == "a"):
            return ""
        return f"![{alt}]({url})"


def text(raw: str | None) -> str:
    """A text node with one space for any white space and with Markdown's active characters escaped."""
    if not raw:
        return ""
    flat = re.sub(r"\s+", " ", _INVISIBLE.sub("", raw))
    return _ACTIVE.sub(lambda found: "\\" + found[0], flat)


def flat_text(element: Element) -> str:
    """The plain text of an element on one line, nothing escaped."""
    return re.sub(r"\s+", " ", _INVISIBLE.sub("", "".join(element.itertext()))).strip()


def collapse(markdown: str) -> str:
    """A paragraph with single spaces and no blank ends."""
    return _SPACE.sub(lambda found: "\n" if "\n" in found[0] else " ", markdown).strip()


def paragraph(markdown: str) -> str:
    """A paragraph whose lines cannot be taken for headings, lists or quotes."""
    lines = re.sub(r"\n+", "\n", collapse(markdown))
    return _ORDINAL_START.sub(r"\1\\\2", _LINE_START.sub(r"\\\1", lines))


def code_span(code: str) -> str:
    """A code span whose backticks outnumber those inside."""
    if not code:
        return ""
    ticks = "`" * (longest_run(code) + 1)
    pad = " " if code.startswith("`") or code.endswith("`") else ""
    return f"{ticks}{pad}{code}{pad}{ticks}"


def longest_run(code: str) -> int:
    """The length of the longest run of backticks."""
    return max((len(run) for run in re.findall(r"`+", code)), default=0)


def absolute_url(href: str | None, base_url: str) -> str | None:
    """The address a link leads to, safe inside Markdown; None for scripts, inline data and nonsense."""
    try:
        url = urljoin(base_url, _INVISIBLE.sub("", href or "").strip())
        parts = urlsplit(url)
    except ValueError:
        return None
    if not href or parts.scheme not in _LINKABLE or (parts.scheme != "mailto" and not parts.netloc):
        return None
    return re.sub(r"[\s()<>\\]", lambda found: f"%{ord(found[0]):02X}" if found[0] < "\x7f" else "%20", url)


def _wrapped(inner: str, mark: str) -> str:
    """Emphasis with its outer spaces outside; code and what is already emphasized stay as they are."""
    core = collapse(inner)
    if not core or "\n" in core or core[0] in "`*" or core[-1] in "`*":
        return inner
    return _around(inner, f"{mark}{core}{mark}")


def _around(inner: str, core: str) -> str:
    """The new core with the white space that stood at the ends of the old one."""
    before = " " if inner[:1].isspace() else ""
    after = " " if inner[-1:].isspace() else ""
    return f"{before}{core}{after}"


def _annotated(tag: str, inner: str) -> str:
    """Text whose meaning is in its position: 10<sup>6</sup> is not 106, and a quotation has marks."""
    if tag == "sup" and _POWER.fullmatch(inner.strip()):
        return f"^{inner.strip()}"
    return f'"{inner}"' if tag == "q" and inner.strip() else inner


def _joined(pieces: list[str]) -> str:
    """The pieces as one string, with a space where two code spans would grow together."""
    out: list[str] = []
    for piece in pieces:
        if out and piece[:1] == "`" and out[-1][-1:] == "`":
            out.append(" ")
        if piece:
            out.append(piece)
    return "".join(out)
