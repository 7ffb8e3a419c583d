"""Writes tables of data as GFM tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kb_pipeline.clean.html.inline import Element

_NOT_IN_CELLS = ("pre", "xmp", "listing", "table", "h1", "h2", "h3", "h4", "h5", "h6")
_MOST_COLUMNS = 100
_MOST_CELLS = 100_000

Row = list[Element]


def table_rows(table: Element) -> list[Row]:
    """The cells of a table's own rows, rows of the head first; those of nested tables are not among them."""
    head = list(_rows_of(table, ("thead",)))
    return [row for row in head + list(_rows_of(table, ("tbody", "tfoot", "table"))) if row]


def _rows_of(table: Element, parts: tuple[str, ...]) -> Iterator[Row]:
    for child in table:
        if child.tag == "tr" and "table" in parts:
            yield list(child.iterchildren("td", "th"))
        elif child.tag in parts:
            for row in child.iterchildren("tr"):
                yield list(row.iterchildren("td", "th"))


def holds_data(table: Element, rows: list[Row]) -> bool:
    """Whether a table is a grid of text, neither a frame around other things nor absurdly large."""
    widest = max((width(row) for row in rows), default=0)
    if len(rows) < 2 or widest < 2 or table.get("role") in ("presentation", "none"):
        return False
    return widest * len(rows) <= _MOST_CELLS and next(table.iterdescendants(*_NOT_IN_CELLS), None) is None


def width(row: Row) -> int:
    """The columns a row covers."""
    return min(sum(span(cell) for cell in row), _MOST_COLUMNS)


def span(cell: Element) -> int:
    """The columns a cell covers, whatever nonsense its attribute says."""
    declared = cell.get("colspan", "1").strip()
    return min(max(int(declared), 1), _MOST_COLUMNS) if declared.isdecimal() and len(declared) < 6 else 1


def write_table(rows: list[Row], write_cell: Callable[[Element], str]) -> list[str]:
    """One GFM table; a first row of ordinary cells serves as its head, because GFM has no table without."""
    columns = max(width(row) for row in rows)
    below = [0] * columns
    lines = [_line(row, columns, below, write_cell) for row in rows]
    lines.insert(1, "|" + " --- |" * columns)
    return ["\n".join(lines)]


def _line(row: Row, columns: int, below: list[int], write_cell: Callable[[Element], str]) -> str:
    """One row; a cell that spans leaves the places it covers empty, here and in the rows that follow."""
    texts = [""] * columns
    covered = [rows > 0 for rows in below]
    below[:] = [max(rows - 1, 0) for rows in below]
    at = 0
    extra: list[str] = []
    for cell in row:
        while at < columns and covered[at]:
            at += 1
        text = write_cell(cell).replace("|", "\\|")
        if at >= columns:
            extra.append(text)
            continue
        texts[at] = text
        for column in range(at, min(at + span(cell), columns)):
            below[column] = max(below[column], _row_span(cell) - 1)
        at += span(cell)
    texts[-1] = " ".join(filter(None, [texts[-1], *extra]))
    return "| " + " | ".join(texts) + " |"


def _row_span(cell: Element) -> int:
    declared = cell.get("rowspan", "1").strip()
    return max(int(declared), 1) if declared.isdecimal() and len(declared) < 6 else 1
