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
_FENCE = re.compile(r"[ \t>]*(?:[-*+][ \t]+|\d{1,9}[.)][ \t]+)?(`{3,}(?=[^`]*\Z)|~{3,})")
_CLOSING = re.compile(r"[ \t>]*(`{3,}|~{3,})\s*\Z")
_TABLE = re.compile(r"[ \t>]*\|")
_ITEM = re.compile(r"[ \t>]*(?:[-*+]|\d{1,9}[.)])[ \t]")
_MARKUP = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)|[`*]+")

_MAX_HEADING_CHARS = 200
"""Every chunk of a section stores its headings: a heading of a megabyte would be stored thousands of times."""


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

    def path_at(self, offset: int) -> tuple[str, ...]:
        """Return the headings above `offset`, outermost first; a heading's own line belongs to its section."""
        index = bisect_right(self.heading_starts, offset) - 1
        return self.paths[index] if index >= 0 else ()

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
        self.block = ""
        self.is_below_heading = False
        self.open_headings: list[tuple[int, str]] = []

    def read(self, start: int, line: str) -> None:
        if self.fence:
            self._read_code(line)
        elif opening := _FENCE.match(line):
            self.fence = opening[1]
            self._start("code", start)
        elif line.isspace():
            self.block = ""
        elif heading := _HEADING.match(line):
            self._read_heading(start, len(heading[1]), heading_name(line))
        elif _TABLE.match(line):
            if self.block != "table":
                self._start("table", start)
        elif self.block != "text" or _ITEM.match(line):
            self._start("text", start)

    def _read_code(self, line: str) -> None:
        closing = _CLOSING.match(line)
        if closing and closing[1].startswith(self.fence):
            self.fence = self.block = ""

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


def read_outline(markdown: str, preserve_blocks: bool = True) -> Outline:
    """Scan `markdown` once; without `preserve_blocks`, code and tables may be cut like any other block."""
    scanner = _Scanner(len(markdown), preserve_blocks)
    for line in _LINE.finditer(markdown):
        if line.end() > line.start():
            scanner.read(line.start(), line.group())
    return scanner.outline
