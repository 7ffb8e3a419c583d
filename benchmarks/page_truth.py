"""What a person reads on a page of a manual, told by its generator's XPaths alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from lxml import html

from benchmarks.manuals import Generator

Element = Any

_INLINE = frozenset({
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins",
    "kbd", "label", "mark", "nobr", "q", "rp", "rt", "ruby", "s", "samp", "small", "span", "strike", "strong", "time",
    "tt", "u", "var", "wbr",
})  # fmt: skip
_UNREAD = frozenset({
    "script", "style", "template", "noscript", "head", "svg", "iframe", "object", "button", "select", "textarea",
    "input", "map", "audio", "video", "canvas", "math",
})  # fmt: skip
_HEADINGS = ".//h1 | .//h2 | .//h3 | .//h4 | .//h5 | .//h6"
_NOTES = frozenset({"note", "tip", "warning", "caution", "important", "admonition"})
_LINE_TAGS = frozenset({"div", "li", "p", "tr"})
_MOSTLY = 0.6
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset=["']?([\w-]+)""", re.I)


@dataclass
class Truth:
    """The parts of one page."""

    region: str = ""
    """The text that a person reads, a line a block."""
    boilerplate: str = ""
    optional: str = ""
    is_listing: bool = False
    """Whether most of the region is links: a list of contents."""
    headings: list[tuple[str, ...]] = field(default_factory=list)
    """Each without and with what is optional in it."""
    code: list[Code] = field(default_factory=list)


@dataclass(frozen=True)
class Code:
    """A block of code, to the character."""

    spellings: tuple[str, ...]
    """With and without what is optional in it, such as lines that are shown on demand."""
    is_in_cell: bool
    """Whether it stands in a table's cell, where no fence can stand."""


def truth_of(body: bytes, generator: Generator) -> Truth | None:
    """Return the parts of a page; None if it has no region, so is of another kind."""
    tree = html.document_fromstring(body, parser=html.HTMLParser(encoding=_encoding(body), remove_comments=True))
    regions = [part for part in tree.xpath(generator.region) if not isinstance(part, str)]
    if not regions:
        return None
    boilerplate, optional = (tree.xpath(path) if path else [] for path in (generator.boilerplate, generator.optional))
    reader = _Reader(regions, boilerplate, optional)
    reader.walk(tree.find("body") if tree.find("body") is not None else tree)
    truth = Truth(_text(reader.region), _text(reader.boilerplate), _text(reader.optional))
    truth.is_listing = sum(map(len, reader.linked)) > _MOSTLY * sum(map(len, reader.region))
    for region in regions:
        truth.headings += [texts for heading in region.xpath(_HEADINGS) if (texts := reader.heading(heading))]
        truth.code += [code for block in _outermost(region.xpath(generator.code)) if (code := reader.code(block))]
    return truth


def _outermost(elements: list[Element]) -> list[Element]:
    found = set(elements)
    return [element for element in elements if not any(parent in found for parent in element.iterancestors())]


def _encoding(body: bytes) -> str:
    declared = _CHARSET.search(body[:4096])
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return declared[1].decode("ascii").lower() if declared else "cp1252"
    return "utf-8"


def _text(parts: list[str]) -> str:
    return re.sub(r"[ \t\r\f\v]*\n\s*", "\n", "".join(parts)).strip()


class _Reader:
    """Walks over a page and tells apart what is read, what is boilerplate, and what may be either."""

    def __init__(self, regions: list[Element], boilerplate: list[Element], optional: list[Element]) -> None:
        self._regions, self._boilerplate, self._optional = set(regions), set(boilerplate), set(optional)
        self.region, self.boilerplate, self.optional = list[str](), list[str](), list[str]()
        self.linked = list[str]()
        """What of the region is within links."""

    def walk(self, element: Element) -> None:
        self._walk(element, self.boilerplate)

    def heading(self, element: Element) -> tuple[str, ...]:
        """Return a heading's text without and with what is optional; nothing if it is no part of what is read."""
        if self._is_left_out(element) or _labels_a_note(element):
            return ()
        whole = _Reader([], list(self._boilerplate), [])
        texts = (" ".join("".join(reader.parts(element)).split()) for reader in (self, whole))
        return tuple(dict.fromkeys(text for text in texts if text))

    def code(self, element: Element) -> Code | None:
        """Return a block of code; None if it is blank or no part of what is read."""
        if self._is_left_out(element):
            return None
        spellings = (
            normal_code("".join(_lines(element, skipped))) for skipped in (self._optional, frozenset[Element]())
        )
        is_in_cell = any(parent.tag in ("td", "th") for parent in element.iterancestors())
        distinct = tuple(dict.fromkeys(spelling for spelling in spellings if spelling))
        return Code(distinct, is_in_cell) if distinct else None

    def _is_left_out(self, element: Element) -> bool:
        left_out = self._boilerplate | self._optional
        parts = (element, *element.iterancestors())
        return any(part in left_out or part.tag in _UNREAD or _is_hidden(part) for part in parts)

    def parts(self, element: Element) -> list[str]:
        """Return the texts in an element."""
        found: list[str] = []
        self._walk(element, found)
        return found

    def _walk(self, element: Element, into: list[str]) -> None:
        if element.tag in _UNREAD or not isinstance(element.tag, str):
            return
        if element in self._regions:
            into = self.region
        if element in self._boilerplate:
            into = self.boilerplate
        if element in self._optional or (into is self.region and _is_hidden(element)):
            into = self.optional
        edge = " " if element.tag in ("sup", "sub") else "" if element.tag in _INLINE else "\n"
        begin = len(into)
        into += [edge, element.text or ""]
        for child in element:
            self._walk(child, into)
            into.append(child.tail or "")
        into.append(edge)
        if element.tag == "a" and into is self.region:
            self.linked += into[begin:]


def _labels_a_note(element: Element) -> bool:
    """Return whether a heading only says that a box is a note or a warning: what follows the box is not below it."""
    around = (parent.get("class") or "" for parent in islice(element.iterancestors(), 2))
    is_short = len("".join(element.itertext()).split()) <= 2
    return is_short and any(not _NOTES.isdisjoint(names.lower().split()) for names in around)


def _is_hidden(element: Element) -> bool:
    """Return whether an element is there for a click, or for another platform: it may be read or not."""
    return element.get("hidden") is not None or "display:none" in element.get("style", "").replace(" ", "")


def _lines(element: Element, skipped: set[Element] | frozenset[Element]) -> Iterator[str]:
    """Yield the text of a block of code with the line breaks that a browser shows."""
    if element.text:
        yield element.text
    for child in element:
        if child.tag == "br":
            yield "\n"
        elif isinstance(child.tag, str) and child not in skipped and child.tag not in _UNREAD:
            text = "".join(_lines(child, skipped))
            yield text
            if child.tag in _LINE_TAGS and not text.endswith("\n"):
                yield "\n"
        if child.tail and not (child.tail.isspace() and element.tag == "div" and child.tag == "div"):
            yield child.tail


def normal_code(text: str) -> str:
    """Return code without what nobody sees: blanks at the ends of lines, blank lines around it."""
    shown = text.replace("\xa0", " ").replace("\u200b", "").replace("\r\n", "\n")
    lines = [line.rstrip() for line in shown.split("\n")]
    while lines and not lines[0]:
        lines.pop(0)
    return "\n".join(lines).rstrip()
