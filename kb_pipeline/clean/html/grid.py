"""Writes data tables so that every row says all it means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from kb_pipeline.clean.html.inline import Element
from kb_pipeline.clean.html.tables import Row, Table

_MAX_HEAD_ROWS = 4
_LONG_TABLE = 5
"""Rows: a longer table is cut into chunks, each of which is told the first row as the names of its columns."""
_DIGIT = re.compile(r"\d")
_MIN_REPEATS = 20_000
"""Characters that spanned cells of one table may repeat, or as many as all its cells have."""
_MAX_WIDE = 60
"""Characters of a text across the whole table that is still repeated in every column: a longer one is a remark."""


class Grid(NamedTuple):
    """The texts of a table: its titles, the names of its columns, and its rows, all equally long."""

    titles: list[str]
    head: list[str]
    body: list[list[str]]
    has_names: bool
    """Whether the page marks the head as such."""


def read_grid(table: Table, write_cell: Callable[[Element], str], *, repeats: bool = True) -> Grid:
    """Return the texts of a data table; with `repeats`, the text of a spanned cell in every place that it covers."""
    names, titles = _head_rows(table)
    layout = _Layout(table, write_cell, repeats)
    texts = [write_cell(cell.element) for row in table.rows[:titles] for cell in row.cells]
    lines = layout.lines(table.rows[titles:])
    count = names - titles
    if count <= 0 and (not lines or _names_rows(table.rows[titles:]) or not _may_be_names(table.rows[titles:], lines)):
        return Grid(texts, [""] * len(lines[0]) if lines else [], lines, has_names=False)
    head = [_joined(column) for column in zip(*lines[: max(count, 1)], strict=True)]
    return Grid(texts, head, lines[max(count, 1) :], has_names=count > 0)


def _head_rows(table: Table) -> tuple[int, int]:
    """Return how many rows name the columns, and how many of these are titles across the whole table."""
    rows, width = table.rows, table.width
    count = _leading(rows, lambda row: row.is_head)
    if not 0 < count < len(rows):
        count = _leading(rows, lambda row: all(cell.is_name for cell in row.cells))
    if count == len(rows) or count > _MAX_HEAD_ROWS:
        return 1, 0
    titles = _leading(rows[:count], lambda row: _is_across(row, width))
    while count > titles and _is_across(rows[count - 1], width):
        count -= 1  # the name of the first part of the table
    return count, titles


def _leading(rows: Sequence[Row], holds: Callable[[Row], bool]) -> int:
    return next((number for number, row in enumerate(rows) if not holds(row)), len(rows))


def _is_across(row: Row, width: int) -> bool:
    return width > 1 and len(row.cells) == 1 and row.cells[0].columns >= width


def _names_rows(rows: Sequence[Row]) -> bool:
    """Return whether the first cells name the rows, and nothing names the columns."""
    first = [row.cells for row in rows[:3] if len(row.cells) > 1]
    return first[:1] == [rows[0].cells] and all(
        cells[0].is_name and not any(cell.is_name for cell in cells[1:]) for cells in first
    )


def _may_be_names(rows: Sequence[Row], lines: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row may name the columns, though nothing says so: in a long table it has to look so."""
    if len(rows) < _LONG_TABLE or all(text.startswith("**") for text in lines[0] if text):
        return True
    looks = [_look(row) for row in rows[:3]]
    return looks[0] not in looks[1:] or any(_is_above_numbers(column) for column in zip(*lines, strict=True))


def _look(row: Row) -> tuple[str | None, ...]:
    cell = row.cells[0].element
    return tuple(
        element.get(name) for element in (cell, cell.getparent()) for name in ("class", "bgcolor", "style", "align")
    )


def _is_above_numbers(column: Sequence[str]) -> bool:
    name, texts = column[0], [text for text in column[1:] if text]
    numbers = sum(_DIGIT.search(text) is not None for text in texts)
    return bool(name) and _DIGIT.search(name) is None and numbers * 3 > len(texts) * 2


def _joined(texts: Sequence[str]) -> str:
    """Return the name of a column from the rows of the head: 'Weight' above 'empty' is 'Weight empty'."""
    return " ".join(text for text, above in zip(texts, ["", *texts], strict=False) if text and text != above)


class _Layout:
    """Puts the cells of a table into columns."""

    def __init__(self, table: Table, write_cell: Callable[[Element], str], repeats: bool) -> None:
        self._write_cell = write_cell
        self._width = table.width
        self._rows_left = [0] * self._width
        self._above = [""] * self._width
        self._columns: set[int] = set()
        """The columns in which a cell begins: a browser shows no others."""
        self._may_repeat = _MIN_REPEATS if repeats else 0

    def lines(self, rows: Sequence[Row]) -> list[list[str]]:
        """Return the texts of each row, one for each column that is not empty."""
        lines, group = [], -1
        for row in rows:
            if row.group != group:
                self._rows_left = [0] * self._width
            group = row.group
            lines.append(self._line(row))
        shown = [column for column in sorted(self._columns) if any(line[column] for line in lines)]
        return [[line[column] for column in shown] for line in lines]

    def _line(self, row: Row) -> list[str]:
        covered = [left > 0 for left in self._rows_left]
        line = [self._repeated(text) if taken else "" for text, taken in zip(self._above, covered, strict=True)]
        self._rows_left = [max(left - 1, 0) for left in self._rows_left]
        column = 0
        for cell in row.cells:
            while column < self._width and covered[column]:
                column += 1
            text = self._write_cell(cell.element)
            self._may_repeat += len(text) if self._may_repeat else 0
            if column >= self._width:
                line[-1] = f"{line[-1]} {text}".strip()
                continue
            end = min(column + cell.columns, self._width)
            is_remark = end - column == self._width and len(text) > _MAX_WIDE
            line[column:end] = [text, *("" if is_remark else self._repeated(text) for _ in range(column + 1, end))]
            self._above[column:end] = [text] * (end - column)
            self._rows_left[column:end] = [max(left, cell.rows - 1) for left in self._rows_left[column:end]]
            self._columns.add(column)
            column = end
        return line

    def _repeated(self, text: str) -> str:
        self._may_repeat = max(self._may_repeat - len(text), 0)
        return text if self._may_repeat else ""


def write_grid(grid: Grid) -> str:
    """Write a GFM table; its first row is the head, since GFM has no tables without one."""
    lines = [_line(grid.head), "|" + " --- |" * len(grid.head), *map(_line, grid.body)]
    return "\n".join(lines)


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def nested_lines(grid: Grid) -> Iterator[str]:
    """Yield a line of text for each row of a table that stands in a cell of another."""
    yield from grid.titles
    rows = grid.body if grid.has_names else [grid.head, *grid.body]
    for row in rows:
        if grid.has_names:
            parts = [_pair(name, text) for name, text in zip(grid.head, row, strict=True) if text]
        else:
            parts = [_pair(*row)] if len(row) == 2 and all(row) else [text for text in row if text]
        if parts:
            yield "; ".join(parts)


def _pair(name: str, text: str) -> str:
    return f"{name}{'' if name.endswith(':') or not name else ':'} {text}".strip()
