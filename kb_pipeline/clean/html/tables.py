"""Writes data tables as GFM tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kb_pipeline.clean.html.inline import Element

_NOT_IN_CELLS = ("pre", "xmp", "listing", "table", "h1", "h2", "h3", "h4", "h5", "h6")
_MAX_COLUMNS = 100
_MAX_CELLS = 100_000

Row = list[Element]


def table_rows(table: Element) -> list[Row]:
    """Return the cells of a table's rows, head rows first, without those of nested tables."""
    head = list(_rows_of(table, ("thead",)))
    return [row for row in head + list(_rows_of(table, ("tbody", "tfoot", "table"))) if row]


def _rows_of(table: Element, parts: tuple[str, ...]) -> Iterator[Row]:
    for child in table:
        if child.tag == "tr" and "table" in parts:
            yield list(child.iterchildren("td", "th"))
        elif child.tag in parts:
            for row in child.iterchildren("tr"):
                yield list(row.iterchildren("td", "th"))


def is_data_table(table: Element, rows: list[Row]) -> bool:
    """Return whether a table is a grid of text: not used for layout, and not excessively large."""
    widest = max((width(row) for row in rows), default=0)
    if len(rows) < 2 or widest < 2 or table.get("role") in ("presentation", "none"):
        return False
    return widest * len(rows) <= _MAX_CELLS and next(table.iterdescendants(*_NOT_IN_CELLS), None) is None


def width(row: Row) -> int:
    """Return the number of columns that a row spans."""
    return min(sum(span(cell) for cell in row), _MAX_COLUMNS)


def span(cell: Element) -> int:
    """Return the number of columns that a cell spans, at least 1, also if its attribute is invalid."""
    declared = cell.get("colspan", "1").strip()
    return min(max(int(declared), 1), _MAX_COLUMNS) if declared.isdecimal() and len(declared) < 6 else 1


def write_table(rows: list[Row], write_cell: Callable[[Element], str]) -> list[str]:
    """Write a GFM table; its first row becomes the head, since GFM has no tables without one."""
    columns = max(width(row) for row in rows)
    rows_left = [0] * columns
    lines = [_line(row, columns, rows_left, write_cell) for row in rows]
    lines.insert(1, "|" + " --- |" * columns)
    return ["\n".join(lines)]


def _line(row: Row, columns: int, rows_left: list[int], write_cell: Callable[[Element], str]) -> str:
    """Write one row; a spanning cell leaves the other places that it covers empty, here and in the next rows."""
    texts = [""] * columns
    covered = [rows > 0 for rows in rows_left]
    rows_left[:] = [max(rows - 1, 0) for rows in rows_left]
    column = 0
    extra: list[str] = []
    for cell in row:
        while column < columns and covered[column]:
            column += 1
        text = write_cell(cell).replace("|", "\\|")
        if column >= columns:
            extra.append(text)
            continue
        texts[column] = text
        for spanned in range(column, min(column + span(cell), columns)):
            rows_left[spanned] = max(rows_left[spanned], _row_span(cell) - 1)
        column += span(cell)
    texts[-1] = " ".join(filter(None, [texts[-1], *extra]))
    return "| " + " | ".join(texts) + " |"


def _row_span(cell: Element) -> int:
    declared = cell.get("rowspan", "1").strip()
    return max(int(declared), 1) if declared.isdecimal() and len(declared) < 6 else 1
