"""Writes list items, each with the number or letter that a browser shows."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kb_pipeline.clean.html.blocks import Block
from kb_pipeline.clean.html.inline import Element

LISTS = frozenset({"ul", "ol", "menu", "dir"})

_STYLE = re.compile(r"list-style(?:-type)?\s*:([^;]{0,200})", re.I)
_STYLES_TEXT = """
    decimal decimal-leading-zero lower-alpha lower-latin upper-alpha upper-latin lower-roman upper-roman lower-greek
    none disc circle square
"""
_STYLES = frozenset(_STYLES_TEXT.split())
_BY_TYPE = {"1": "decimal", "a": "lower-alpha", "A": "upper-alpha", "i": "lower-roman", "I": "upper-roman"}
# Docutils and Asciidoctor leave it to their style sheets.
_BY_CLASS_TEXT = """
    arabic=decimal loweralpha=lower-alpha upperalpha=upper-alpha lowerroman=lower-roman upperroman=upper-roman
    lowergreek=lower-greek
"""
_BY_CLASS = dict(pair.split("=") for pair in _BY_CLASS_TEXT.split())
_ITEM = re.compile(r"\s*(?:- |\d{1,9}\. )")
_INTEGER = re.compile(r"\s*([+-]?\d{1,9})(?!\d)")
_GREEK = "αβγδεζηθικλμνξοπρστυφχψω"
_ROMAN = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"),
    (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip


class Numbering:
    """Counts the items of one list."""

    def __init__(self, element: Element) -> None:
        ordered = element.tag == "ol"
        self._style = _style_of(element) or ("decimal" if ordered else "disc")
        self._step = -1 if ordered and element.get("reversed") is not None else 1
        start = _integer(element.get("start")) if ordered else None
        if start is None:
            start = 1 if self._step > 0 else sum(1 for _ in element.iterchildren("li"))
        self._next = start

    def marker(self, item: Element) -> str:
        """Return what stands before an item, and count it."""
        declared = _integer(item.get("value")) if item.tag == "li" else None
        number = self._next if declared is None else declared
        self._next = number + self._step
        return _marker((_style_of(item) if item.tag == "li" else "") or self._style, number)


def _marker(style: str, number: int) -> str:
    if style in ("none", "disc", "circle", "square"):
        return "- "
    label = _label(style, number)
    # Markdown knows numbers of nine digits only: letters stand as text in an item of an unordered list.
    return f"{label}. " if label.isdecimal() and len(label) < 10 else f"- {label}. "


def _label(style: str, number: int) -> str:
    if style == "decimal-leading-zero":
        return f"{number:02d}"
    if number < 1 or style == "decimal":
        return str(number)
    if style.endswith("roman"):
        label = _roman(number)
    else:
        label = _letters(number, _GREEK if style.endswith("greek") else "abcdefghijklmnopqrstuvwxyz")
    return label.upper() if style.startswith("upper") else label


def _letters(number: int, alphabet: str) -> str:
    letters = ""
    while number:
        number, place = divmod(number - 1, len(alphabet))
        letters = alphabet[place] + letters
    return letters


def _roman(number: int) -> str:
    if number > 3999:
        return str(number)
    out = ""
    for value, numeral in _ROMAN:
        count, number = divmod(number, value)
        out += numeral * count
    return out


def _style_of(element: Element) -> str:
    """Return the kind of numbers or bullets that a list or an item asks for; empty if it does not say."""
    if style := element.get("style"):
        for found in _STYLE.finditer(style[:1000]):
            for word in found[1].lower().split():
                if word in _STYLES:
                    return word
    if (by_type := _BY_TYPE.get((element.get("type") or "").strip())) is not None:
        return by_type
    classes = (element.get("class") or "")[:1000].split() if element.tag == "ol" else ()
    return next((_BY_CLASS[name] for name in classes if name in _BY_CLASS), "")


def _integer(declared: str | None) -> int | None:
    found = _INTEGER.match(declared or "")
    return int(found[1]) if found else None


def children_of(element: Element) -> Iterator[Element]:
    """Yield what a list consists of, also where an element that is no list stands around the items."""
    for child in element:
        if child.tag not in LISTS and child.tag != "li" and next(child.iterchildren("li"), None) is not None:
            yield from child
        else:
            yield child


def is_item(element: Element) -> bool:
    """Return whether an element is a list item by its tag or its role."""
    return bool(element.tag == "li" or element.get("role") == "listitem")


def item_blocks(blocks: list[Block], marker: str, *, glued: bool) -> list[Block]:
    """Return the blocks of a list item: the first after its marker, the others indented below it.

    A heading and what follows it stand at the margin, as code does.
    """
    first, rest = blocks[0], blocks[1:]
    if first.heading:
        return blocks
    if first.verbatim:
        return blocks if marker == "- " else [Block(marker.rstrip(), glued=glued), first, *rest]
    if rest and is_short_item(blocks):
        rest = [rest[0]._replace(glued=True), *rest[1:]]
    pad = "  " if marker.startswith("- ") else " " * len(marker)
    head = Block(marker + first.text.replace("\n", "\n" + pad), glued=glued)
    return [head, *indent(rest, pad)]


def is_short_item(blocks: list[Block]) -> bool:
    """Return whether an item is one paragraph, followed by nested items at most."""
    return all(block.glued or _ITEM.match(block.text) for block in blocks[1:])


def indent(blocks: list[Block], pad: str) -> list[Block]:
    """Indent blocks up to the first code fence or heading: that one and those after it end the list."""
    out: list[Block] = []
    for index, block in enumerate(blocks):
        if block.is_at_margin:
            return out + blocks[index:]
        out.append(block._replace(text=pad + block.text.replace("\n", "\n" + pad)))
    return out
