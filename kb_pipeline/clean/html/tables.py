"""Reads tables, those of `div` elements too, and says how many columns and rows each cell covers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kb_pipeline.clean.html.inline import Element

MAX_COLUMNS = 100
_MAX_ROW_SPAN = 65_534
"""As browsers have it."""

_BY_TAG_TEXT = "tr=row thead=head tbody=group tfoot=foot td=cell th=name caption=caption table=table colgroup= col="
_BY_ROLE_TEXT = """
    row=row rowgroup=group cell=cell gridcell=cell columnheader=name rowheader=name caption=caption table=table
    grid=table treegrid=table
"""
_BY_DISPLAY_TEXT = """
    table=table inline-table=table table-row=row table-row-group=group table-header-group=head
    table-footer-group=foot table-cell=cell table-caption=caption
"""
_BY_TAG, _BY_ROLE, _BY_DISPLAY = (
    dict(pair.split("=") for pair in text.split()) for text in (_BY_TAG_TEXT, _BY_ROLE_TEXT, _BY_DISPLAY_TEXT)
)
_DISPLAY = re.compile(r"(?:^|[;\s])display\s*:\s*([a-z-]{1,20})", re.I)


class Cell(NamedTuple):
    """A cell, and how many columns and rows it covers."""

    element: Element
    is_name: bool
    """Whether it names its row or column."""
    columns: int = 1
    rows: int = 1


@dataclass(slots=True)
class Row:
    """A row, and the number of the group that it is in: no cell spans into another group."""

    cells: list[Cell]
    group: int = 0
    is_head: bool = False


@dataclass(slots=True)
class Table:
    """What is in a table."""

    element: Element
    rows: list[Row] = field(default_factory=list)
    captions: list[Element] = field(default_factory=list)
    strays: list[Element | str] = field(default_factory=list)
    """What stands between the cells; a browser shows it above the table."""
    width: int = 0
    """The number of columns up to the last in which a cell begins: a cell may claim to span more than there are."""


def table_part(element: Element) -> str:
    """Return what an element is in a table, by its tag, its role or its style; empty for any other element."""
    if (part := _BY_TAG.get(element.tag)) is not None:
        return part
    if part := _BY_ROLE.get((element.get("role") or "").strip().lower(), ""):
        return part
    style = element.get("style")
    found = _DISPLAY.search(style[:1000]) if style and "table" in style else None
    return _BY_DISPLAY.get(found[1].lower(), "") if found else ""


def read_table(element: Element) -> Table:
    """Return the rows of a table, head first and foot last, without those of nested tables."""
    reader = _Reader(Table(element))
    reader.read(element, "group")
    rows = reader.rows
    reader.table.rows = [row for part in ("head", "group", "foot") for row in rows[part] if row.cells]
    reader.table.width = min(_columns_begun(reader.table.rows), MAX_COLUMNS)
    return reader.table


def _columns_begun(rows: Sequence[Row]) -> int:
    """Return the number of columns up to the last in which a cell begins."""
    begun, group = 0, -1
    covered: dict[int, int] = {}  # rows that cells above still cover, by column
    for row in rows:
        below = {column: left - 1 for column, left in covered.items() if left > 1} if row.group == group else {}
        covered = covered if row.group == group else {}
        group, column = row.group, 0
        for cell in row.cells:
            while column in covered:
                column += 1
            if column >= MAX_COLUMNS:
                return MAX_COLUMNS
            begun = max(begun, column + 1)
            if cell.rows > 1:
                below.update(dict.fromkeys(range(column, column + cell.columns), cell.rows - 1))
            column += cell.columns
        covered = below
    return begun


class _Reader:
    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows: dict[str, list[Row]] = {"head": [], "group": [], "foot": []}
        self._groups = 0

    def read(self, element: Element, part: str, row: Row | None = None) -> None:
        """Read what is between the tags of a table, a group of rows or a row."""
        self._stray(element.text)
        loose: Row | None = None  # cells outside of any row stand in one of their own
        for child in element:
            kind = table_part(child)
            if kind in ("cell", "name"):
                loose = row or loose or self._row(part)
                loose.cells.append(_cell(child, kind == "name"))
            else:
                loose = None
                self._read_child(child, kind, part, row)
            self._stray(child.tail)

    def _read_child(self, child: Element, kind: str, part: str, row: Row | None) -> None:
        if kind == "row":
            self.read(child, part, self._row(part))
        elif kind in ("head", "group", "foot"):
            self._groups += 1
            self.read(child, kind)
            self._groups += 1
        elif kind == "caption":
            self.table.captions.append(child)
        elif kind == "table" or next(filter(table_part, child.iterdescendants()), None) is None:
            if child.tag not in ("colgroup", "col"):
                self.table.strays.append(child)
        else:  # a form or a wrapper around rows or cells
            self.read(child, part, row)

    def _row(self, part: str) -> Row:
        row = Row([], self._groups, part == "head")
        self.rows[part].append(row)
        return row

    def _stray(self, text: str | None) -> None:
        if text and not text.isspace():
            self.table.strays.append(text)


def _cell(element: Element, is_name: bool) -> Cell:
    down = _count(element.get("rowspan") or element.get("aria-rowspan"))
    return Cell(element, is_name, span(element), min(_MAX_ROW_SPAN if down == 0 else down, _MAX_ROW_SPAN))


def span(cell: Element) -> int:
    """Return the number of columns that a cell spans, at least 1, also if its attribute is invalid."""
    return min(max(_count(cell.get("colspan") or cell.get("aria-colspan")), 1), MAX_COLUMNS)


def _count(declared: str | None) -> int:
    declared = (declared or "1").strip()
    return int(declared) if declared.isdecimal() and len(declared) < 6 else 1
