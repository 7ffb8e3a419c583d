"""Finds listings that are no `pre`: an element for each line, a table with a line in each row, code with breaks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from kb_pipeline.clean.html.code_text import Element, is_block, is_line, style_of
from kb_pipeline.clean.html.gutters import counts, counts_rows, is_named, line_count

_CODE_NAME = re.compile(
    r"(?:^|[-_])(?:code|fragment|syntaxhighlighter|highlighter|highlight|codehilite|crayon|codemirror|cm|ace|monaco|"
    r"enlighter|prettyprint|listing|source|src|snippet|program|programlisting|hljs|prism|shiki|chroma|rouge|pygments|"
    r"gist|blob|terminal|console)(?:[-_]|$)",
    re.I,
)
_ROW_NAME = re.compile(r"(?:^|[-_])(?:code|blob|hljs|highlight|source|chroma|line|lines)(?:[-_]|$)", re.I)
_TOP = re.compile(r"top:(-?\d{1,7})")
_MAX_CLIMB = 6
_MAX_CELLS = 200_000


class LineListing(NamedTuple):
    """A listing with an element for each line."""

    owner: Element
    """The element around the lines whose class speaks of code."""
    lines: list[Element]


def line_listings(tree: Element) -> list[LineListing]:
    """Return the listings outside `pre` and `code` that have an element for each line.

    A line alone may be one of a poem: the class of something around it has to speak of code.
    """
    owners: dict[Element, Element | None] = {}
    groups: dict[Element, list[Element]] = {}
    inside: set[Element] = set()
    for element in tree.iter():
        parent = element.getparent()
        if parent in inside or element.tag == "code" or (element.tag == "pre" and not is_line(element)):
            inside.add(element)
        elif parent is not None and element.get("class") is not None and _is_block_line(element):
            if parent not in owners:
                owners[parent] = _owner(parent)
            owner = owners[parent]
            if owner is not None:
                groups.setdefault(owner, []).append(element)
                inside.add(element)
    listings = [LineListing(owner, _in_shown_order(lines)) for owner, lines in groups.items()]
    return [listing for listing in listings if not _are_numbers(listing.lines)]


def _is_block_line(element: Element) -> bool:
    return element.tag in ("div", "li", "p", "pre", "span") and is_line(element)


def _owner(parent: Element) -> Element | None:
    """Return the nearest element around a line whose class speaks of code, or None."""
    element = parent
    for _ in range(_MAX_CLIMB):
        if element is None or element.tag in ("body", "main", "article"):
            return None
        names = (element.get("class") or "")[:1000].split()
        if any(_CODE_NAME.search(name) for name in names if "line" not in name.lower()):
            return element
        element = element.getparent()
    return None


def _are_numbers(lines: list[Element]) -> bool:
    """Return whether lines are those of a gutter."""
    return all("".join(line.itertext()).strip().isdecimal() for line in lines)


def _in_shown_order(lines: list[Element]) -> list[Element]:
    """Return lines from top to bottom if an editor has placed each at a height of its own, as Monaco does."""
    tops = [_TOP.search(style_of(line)) for line in lines]
    if any(top is None for top in tops):
        return lines
    return [line for _, line in sorted(zip(tops, lines, strict=True), key=lambda pair: int(pair[0][1]))]  # type: ignore[index]


def code_cells(table: Element) -> list[Element]:
    """Return the cells of a table that hold a listing beside its line numbers; none if it is any other table.

    Either one row has the numbers in one cell and all of the code in another, or each row has one line.
    """
    rows = _rows(table)
    if not rows or any(cell.tag == "th" for row in rows for cell in row):
        return []
    if len(rows) == 1:
        return _code_cell(rows[0])
    width = len(rows[0])
    if width < 2 or any(len(row) != width for row in rows):
        return []
    code = [row[-1] for row in rows]
    numbered = [[row[column] for row in rows] for column in range(width - 1)]
    return code if all(map(counts_rows, numbered)) and _are_code_lines(table, numbered[-1], code) else []


def _rows(table: Element) -> list[list[Element]]:
    rows = []
    cells = 0
    for part in [table, *table.iterchildren("tbody", "thead", "tfoot")]:
        for row in part.iterchildren("tr"):
            rows.append(list(row.iterchildren("td", "th")))
            cells += len(rows[-1])
    return rows if cells <= _MAX_CELLS else []


def _code_cell(row: list[Element]) -> list[Element]:
    """Return the only cell with code, if all others are empty or count its lines."""
    found = [(cell, pre) for cell in row if (pre := _pre_of(cell)) is not None and not _is_number_cell(cell)]
    if len(found) != 1 or len(row) < 2:
        return []
    code, pre = found[0]
    lines = line_count(pre.text or "")
    others = [cell for cell in row if cell is not code and any(text.strip() for text in cell.itertext())]
    return [code] if others and all(counts([cell], lines) for cell in others) else []


def _pre_of(cell: Element) -> Element | None:
    """Return the `pre` of a cell that holds nothing else."""
    pre = next(cell.iter("pre"), None)
    return pre if pre is not None and len(list(islice(cell.iter("pre", "table"), 2))) == 1 else None


def _is_number_cell(cell: Element) -> bool:
    return all(word.isdecimal() for text in cell.itertext() for word in text.split())


def _are_code_lines(table: Element, numbers: list[Element], code: list[Element]) -> bool:
    """Return whether cells beside numbers are lines of code, not of a table of data.

    Many tables count their rows, so that something has to say that these are code: the style or class of the cells,
    numbers that are named so or kept in attributes, or code with indentation.
    """
    if any(cell.getparent() is None or _has_inner_block(cell) for cell in code):
        return False
    if all("white-space:pre" in style_of(cell) for cell in code):
        return True
    if all(is_named(cell) or any(is_named(part) for part in cell.iterdescendants()) for cell in numbers):
        return True
    filled = [cell for cell in code if any(text.strip() for text in cell.itertext())]
    if not filled or not all(_is_all_code(cell) for cell in filled):
        return False
    names = (table.get("class") or "") + " " + (filled[0].get("class") or "")
    return any(_ROW_NAME.search(name) for name in names.split()) or any(map(_is_indented, filled))


def _has_inner_block(cell: Element) -> bool:
    return any(is_block(part) for part in cell.iterdescendants() if part.tag not in ("pre", "div"))


def _is_all_code(cell: Element) -> bool:
    """Return whether a cell's text stands in `pre` or `code`."""
    outside = [cell.text, *(part.tail for part in cell)]
    return len(cell) > 0 and not any((text or "").strip() for text in outside) and _are_code(cell)


def _are_code(elements: Iterable[Element]) -> bool:
    return all(element.tag in ("pre", "code", "br") for element in elements)


def _is_indented(cell: Element) -> bool:
    text = "".join(cell.itertext()).lstrip("\n")
    return text[:2].isspace() or text.startswith(("\t", "\xa0"))
