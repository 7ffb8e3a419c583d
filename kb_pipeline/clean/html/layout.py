"""Tells tables of data from tables that arrange a page, and finds lists that are laid out as tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kb_pipeline.clean.html.code import VERBATIM
from kb_pipeline.clean.html.tables import Cell, Row, Table

_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_TEXT_BLOCKS = ("p", "ul", "ol", "dl", "div", "blockquote", "br")
_LONG_TEXT = 600
"""Characters: a cell of data is shorter, or is not made of several blocks."""
_LONG_PAGE = 3_000
"""Characters: with a table in it, a longer cell is not one of data even in a table with names."""
_ONE_ROW_TEXT = 300
"""Characters: a single row of longer cells is columns of a page."""
_PAGE_BLOCKS = 4
_LONG_CODE = 15
"""Lines: longer code is kept with its lines rather than in its row."""
_MAX_PLACES = 10
"""Places in the grid for each cell: a hostile table claims many more by its spans."""
_FEW_PLACES = 20_000

_DATA_CLASSES_TEXT = "table wikitable confluencetable data datatable data-table docutils tableblock"
_DATA_CLASSES = frozenset(_DATA_CLASSES_TEXT.split())
_ORDINAL = re.compile(
    r"[(\[]?(?:\d{1,3}|[A-Za-z]{1,2}|[ivxlc]{1,7}|[IVXLC]{1,7})[.)\]]{1,2}"  # 1. (a) iv) [12]
)
_BULLET = re.compile(r"[-–—•·▪◦‣●○■□*]")


def is_data_table(table: Table) -> bool:
    """Return whether the rows and columns of a table mean something."""
    if (table.element.get("role") or "").strip().lower() in ("presentation", "none"):
        return False
    if table.width < 2 and not _is_named_column(table):
        return False
    if table.width == 0 or _is_excessive(table):
        return False
    if next(table.element.iterdescendants("h1"), None) is not None or _is_mostly_code(table):
        return False
    if _has_names(table):
        return not _holds_page(table)
    return not (_holds_page(table) or _holds_text(table)) if _has_lines(table) else _is_grid_of_text(table)


def list_markers(table: Table) -> list[str] | None:
    """Return the number of each row if a table is a list: a column of numbers or bullets beside one of text."""
    if not table.rows or table.width != 2 or any(len(row.cells) != 2 for row in table.rows):
        return None
    markers = ["".join(row.cells[0].element.itertext()).strip() for row in table.rows]
    if all(_BULLET.fullmatch(marker) for marker in markers):
        return [""] * len(markers)
    return markers if all(_ORDINAL.fullmatch(marker) for marker in markers) else None


def cells_below_names(table: Table) -> Iterator[Cell]:
    """Yield the cells of a table that is no grid; where its first row names the columns, each below its name."""
    rows = table.rows
    names = rows[0].cells if len(rows) > 1 and all(cell.is_name for cell in rows[0].cells) else []
    if len(names) < 2 or any(len(row.cells) != len(names) for row in rows):
        yield from (cell for row in rows for cell in row.cells)
        return
    for row in rows[1:]:
        for name, cell in zip(names, row.cells, strict=True):
            yield name
            yield cell


def _is_excessive(table: Table) -> bool:
    cells = sum(len(row.cells) for row in table.rows)
    return table.width * len(table.rows) > max(_MAX_PLACES * cells, _FEW_PLACES)


def _is_named_column(table: Table) -> bool:
    """Return whether a table has one column with a name, and no listing in it."""
    has_code = next(table.element.iterdescendants(*VERBATIM), None) is not None
    return len(table.rows) > 1 and not has_code and _has_names(table)


def _has_names(table: Table) -> bool:
    """Return whether a table has a caption, a head, or cells that name others."""
    if table.captions or table.element.get("role"):
        return True
    return any(row.is_head or any(cell.is_name and _text(cell) for cell in row.cells) for row in table.rows)


def _has_lines(table: Table) -> bool:
    """Return whether a table is drawn with lines, or its class says that it is one of data."""
    element = table.element
    if (element.get("border") or "0").strip() not in ("0", ""):
        return True
    return not _DATA_CLASSES.isdisjoint((element.get("class") or "")[:1000].lower().split())


def _holds_page(table: Table) -> bool:
    """Return whether a cell holds what sections of a page do."""
    if next(table.element.iterdescendants("table", *_HEADINGS), None) is None:
        return False
    return any(_is_section(cell) for row in table.rows for cell in row.cells)


def _is_section(cell: Cell) -> bool:
    length = len(_text(cell))
    headings = sum(1 for _ in cell.element.iterdescendants(*_HEADINGS))
    nested = next(cell.element.iterdescendants("table"), None) is not None
    return length > _LONG_TEXT and (headings > 1 or (nested and length > _LONG_PAGE))


def _is_mostly_code(table: Table) -> bool:
    codes = ["".join(code.itertext()) for code in table.element.iterdescendants(*VERBATIM)]
    if max((code.count("\n") for code in codes), default=0) < _LONG_CODE:
        return False
    return 2 * sum(map(len, codes)) > sum(len(_text(cell)) for row in table.rows for cell in row.cells)


def _is_grid_of_text(table: Table) -> bool:
    """Return whether a table that nothing marks as data has rows of short texts: old pages are arranged by tables."""
    if next(table.element.iterdescendants(*_HEADINGS), None) is not None:
        return False
    if next(table.element.iterdescendants("table"), None) is not None:
        return _are_short_rows(table.rows)
    if len(table.rows) == 1:
        return _is_row_of_text(table.rows[0])
    return not _holds_text(table) and any(sum(1 for cell in row.cells if _text(cell)) > 1 for row in table.rows)


def _are_short_rows(rows: Sequence[Row]) -> bool:
    lengths = [[length for cell in row.cells if (length := len(_text(cell)))] for row in rows]
    return sum(len(row) > 1 for row in lengths) > 1 and max(map(max, filter(None, lengths))) <= _ONE_ROW_TEXT


def _is_row_of_text(row: Row) -> bool:
    texts = [text for cell in row.cells if (text := _text(cell))]
    if len(texts) < 2 or max(map(len, texts)) > _ONE_ROW_TEXT:
        return False
    if any(next(cell.element.iterdescendants(*VERBATIM), None) is not None for cell in row.cells):
        return False
    blocks = (cell.element.iterdescendants(*_TEXT_BLOCKS) for cell in row.cells)
    linked = sum(len("".join(link.itertext())) for cell in row.cells for link in cell.element.iterdescendants("a"))
    return all(sum(1 for _ in found) < 2 for found in blocks) and 2 * linked < sum(map(len, texts))


def _holds_text(table: Table) -> bool:
    return any(_is_text(cell) for row in table.rows for cell in row.cells)


def _is_text(cell: Cell) -> bool:
    """Return whether a cell holds text of several paragraphs."""
    blocks = sum(1 for _ in cell.element.iterdescendants(*_TEXT_BLOCKS))
    return blocks >= _PAGE_BLOCKS and len(_text(cell)) > _LONG_TEXT


def _text(cell: Cell) -> str:
    return "".join(cell.element.itertext()).strip()
