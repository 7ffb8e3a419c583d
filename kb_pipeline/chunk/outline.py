"""Finds the offsets of blocks and headings in a Markdown text; renders nothing.

A line scanner rather than a Markdown parser: it has to be linear in time and memory on any input. It knows ATX
headings, fenced code, pipe tables and list items; everything else is a paragraph.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n|\Z)")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+")
_FENCE = re.compile(r"(?P<around>[ \t>]*(?P<item>[-*+][ \t]+|\d{1,9}[.)][ \t]+)?)(?P<fence>`{3,}(?=[^`]*\Z)|~{3,})")
_QUOTED = re.compile(r" {0,3}>")
_CLOSING = re.compile(r"[ \t>]*(`{3,}|~{3,})\s*\Z")
_TABLE = re.compile(r"[ \t>]*\|")
_ITEM = re.compile(r"[ \t>]*(?:[-*+]|\d{1,9}[.)])[ \t]")
_MARKUP = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)|[`*]+")
_CELL_END = re.compile(r"(?<!\\)\|")
_DELIMITERS = frozenset("|-: \t>\r\n")
_BREAK = re.compile(r"<br>")

_MAX_HEADING_CHARS = 200
"""Every chunk of a section stores its headings: a heading of a megabyte would be stored thousands of times."""

COLUMN_SEPARATOR = " | "
"""Stands between the column names of a table in the heading path of a chunk that starts inside the table."""


@dataclass(slots=True)
class Outline:
    """Where blocks start, which of them should not be cut, and the heading path of every section."""

    length: int
    starts: list[int] = field(default_factory=list)
    """The start of each block, in order; a block reaches to the next start."""
    unsplittable: bytearray = field(default_factory=bytearray)
    """For each block: 1 for code and tables."""
    breaks: list[int] = field(default_factory=list)
    """Starts of blocks that do not follow a heading directly: the best places to cut."""
    heading_starts: list[int] = field(default_factory=list)
    paths: list[tuple[str, ...]] = field(default_factory=list)
    """For each heading: the path of headings down to it, itself included."""
    table_heads: dict[int, str] = field(default_factory=dict)
    """The column names of each table that has a head row, by the start of the table."""

    def path_at(self, offset: int) -> tuple[str, ...]:
        """Return the headings above `offset`, outermost first; a heading's own line belongs to its section."""
        index = bisect_right(self.heading_starts, offset) - 1
        return self.paths[index] if index >= 0 else ()

    def table_head_at(self, offset: int) -> str:
        """Return the column names of the table that `offset` is inside of; empty at a table's start and elsewhere."""
        index = bisect_right(self.starts, offset) - 1
        if index < 0 or self.starts[index] == offset:
            return ""
        return self.table_heads.get(self.starts[index], "")

    def unsplittable_at(self, offset: int) -> tuple[int, int] | None:
        """Return the span of the code block or table that holds the character at `offset`, or None."""
        index = bisect_right(self.starts, offset) - 1
        if index < 0 or not self.unsplittable[index]:
            return None
        return self.starts[index], self._end(index)

    def after_unsplittable(self, offset: int, stop: int) -> int:
        """Return the first offset from `offset` on with neither code nor table between it and `stop`."""
        index = bisect_right(self.starts, stop - 1) - 1
        while index >= 0 and (ends := self._end(index)) > offset:
            if self.unsplittable[index]:
                return ends
            index -= 1
        return offset

    def break_near(self, offset: int, low: int, high: int) -> int | None:
        """Return the block start closest to `offset` in (`low`, `high`], or None."""
        first, last = bisect_right(self.breaks, low), bisect_right(self.breaks, high)
        if first == last:
            return None
        right = min(max(bisect_left(self.breaks, offset), first), last - 1)
        left = max(right - 1, first)
        return min(self.breaks[left], self.breaks[right], key=lambda start: abs(start - offset))

    def _end(self, index: int) -> int:
        return self.starts[index + 1] if index + 1 < len(self.starts) else self.length


class _Scanner:
    """Scans line by line; its state is the kind of block that the last line belonged to."""

    def __init__(self, length: int, preserve_blocks: bool) -> None:
        self.outline = Outline(length)
        self.preserve_blocks = preserve_blocks
        self.fence = ""
        self.is_fence_quoted = False
        self.fence_indent = 0
        self.block = ""
        self.is_below_heading = False
        self.first_row = ""
        self.open_headings: list[tuple[int, str]] = []

    def read(self, start: int, line: str) -> None:
        if self.fence and self._has_left(line):
            self.fence = self.block = ""
        if self.fence:
            self._read_code(line)
        elif opening := _FENCE.match(line):
            self._open_fence(opening)
            self._start("code", start)
        elif line.isspace():
            self.block = ""
        elif heading := _HEADING.match(line):
            self._read_heading(start, len(heading[1]), heading_name(line))
        elif _TABLE.match(line):
            self._read_row(start, line)
        elif self.block != "text" or _ITEM.match(line):
            self._start("text", start)

    def _open_fence(self, opening: re.Match[str]) -> None:
        around = opening["around"]
        self.fence, self.is_fence_quoted = opening["fence"], ">" in around
        self.fence_indent = len(around) if opening["item"] and not self.is_fence_quoted else 0

    def _has_left(self, line: str) -> bool:
        """Return whether a line ends the quote or the list item that the fence was opened in, and the fence with it."""
        if self.is_fence_quoted:
            return _QUOTED.match(line) is None
        indent = len(line) - len(line.lstrip(" \t"))
        return self.fence_indent > 0 and indent == 0 and not line.isspace() and not _CLOSING.match(line)

    def _read_code(self, line: str) -> None:
        closing = _CLOSING.match(line)
        if closing and closing[1].startswith(self.fence):
            self.fence = self.block = ""

    def _read_row(self, start: int, line: str) -> None:
        if self.block != "table":
            self._start("table", start)
            self.first_row = line
            return
        if self.first_row and "-" in line and _DELIMITERS.issuperset(line):
            self.outline.table_heads[self.outline.starts[-1]] = _column_names(self.first_row)
        self.first_row = ""

    def _read_heading(self, start: int, level: int, name: str) -> None:
        self._start("heading", start)
        if not name:
            return
        while self.open_headings and self.open_headings[-1][0] >= level:
            self.open_headings.pop()
        self.open_headings.append((level, name))
        self.outline.heading_starts.append(start)
        self.outline.paths.append(tuple(name for _, name in self.open_headings))

    def _start(self, block: str, start: int) -> None:
        if not self.is_below_heading:
            self.outline.breaks.append(start)
        self.outline.starts.append(start)
        self.outline.unsplittable.append(self.preserve_blocks and block in {"code", "table"})
        self.block, self.is_below_heading = block, block == "heading"


def heading_name(line: str) -> str:
    """Return the text of a heading line without markup; empty if the line is no heading or has no text."""
    marker = _HEADING.match(line)
    if not marker:
        return ""
    text = line[marker.end() : marker.end() + 4 * _MAX_HEADING_CHARS].strip()
    unclosed = text.rstrip("#")
    text = unclosed if not unclosed or unclosed[-1].isspace() else text
    return " ".join(_MARKUP.sub(r"\1", text).split())[:_MAX_HEADING_CHARS].rstrip()


def _column_names(row: str) -> str:
    """Return the names in a table's head row without markup, in one line; empty if it has none."""
    cells = _CELL_END.split(row[: 4 * _MAX_HEADING_CHARS].strip(" \t>\r\n").strip("|"))
    names = (" ".join(_MARKUP.sub(r"\1", _BREAK.sub(" ", cell)).replace("\\|", "|").split()) for cell in cells)
    return COLUMN_SEPARATOR.join(filter(None, names))[:_MAX_HEADING_CHARS].rstrip(" |")


def read_outline(markdown: str, preserve_blocks: bool = True) -> Outline:
    """Scan `markdown` once; without `preserve_blocks`, code and tables may be cut like any other block."""
    scanner = _Scanner(len(markdown), preserve_blocks)
    for line in _LINE.finditer(markdown):
        if line.end() > line.start():
            scanner.read(line.start(), line.group())
    return scanner.outline
