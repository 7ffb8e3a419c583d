"""Finds blocks and headings of a Markdown text by their offsets; renders nothing.

A line scanner rather than a Markdown parser: it has to be linear in time and memory on whatever a crawl brings in.
It knows ATX headings, fenced code, pipe tables, list items and paragraphs; the rest is paragraphs.
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

_LONGEST_HEADING = 200
"""Every chunk of a section carries its headings: one of a megabyte would be stored thousands of times."""


@dataclass(slots=True)
class Outline:
    """Where blocks start, which of them are better not cut, and the heading path of every section."""

    length: int
    starts: list[int] = field(default_factory=list)
    """Start of each block, in order; a block reaches to the next start."""
    kept: bytearray = field(default_factory=bytearray)
    """For each block: 1 for code and tables."""
    breaks: list[int] = field(default_factory=list)
    """Starts of blocks that do not stand directly below a heading: where cutting hurts least."""
    heading_starts: list[int] = field(default_factory=list)
    paths: list[tuple[str, ...]] = field(default_factory=list)
    """For each heading: the path down to and with it."""

    def path_at(self, offset: int) -> tuple[str, ...]:
        """The headings above `offset`, outermost first; a heading's own line is within its section."""
        index = bisect_right(self.heading_starts, offset) - 1
        return self.paths[index] if index >= 0 else ()

    def kept_block_at(self, offset: int) -> tuple[int, int] | None:
        """The span of the code block or table that holds the character at `offset`."""
        index = bisect_right(self.starts, offset) - 1
        if index < 0 or not self.kept[index]:
            return None
        return self.starts[index], self._end(index)

    def after_kept(self, offset: int, stop: int) -> int:
        """The first offset from `offset` on with neither code nor table between it and `stop`."""
        index = bisect_right(self.starts, stop - 1) - 1
        while index >= 0 and (ends := self._end(index)) > offset:
            if self.kept[index]:
                return ends
            index -= 1
        return offset

    def break_near(self, offset: int, low: int, high: int) -> int | None:
        """The block start closest to `offset` with `low` < it <= `high`."""
        first, last = bisect_right(self.breaks, low), bisect_right(self.breaks, high)
        if first == last:
            return None
        right = min(max(bisect_left(self.breaks, offset), first), last - 1)
        left = max(right - 1, first)
        return min(self.breaks[left], self.breaks[right], key=lambda start: abs(start - offset))

    def _end(self, index: int) -> int:
        return self.starts[index + 1] if index + 1 < len(self.starts) else self.length


class _Scanner:
    """Reads line by line; the state is the kind of block that the last line belonged to."""

    def __init__(self, length: int, keeps_blocks: bool) -> None:
        self.outline = Outline(length)
        self.keeps_blocks = keeps_blocks
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
        self.outline.kept.append(self.keeps_blocks and block in {"code", "table"})
        self.block, self.is_below_heading = block, block == "heading"


def heading_name(line: str) -> str:
    """The words of a heading's line, without markup; empty when it is no heading or has none."""
    marker = _HEADING.match(line)
    if not marker:
        return ""
    text = line[marker.end() : marker.end() + 4 * _LONGEST_HEADING].strip()
    unclosed = text.rstrip("#")
    text = unclosed if not unclosed or unclosed[-1].isspace() else text
    return " ".join(_MARKUP.sub(r"\1", text).split())[:_LONGEST_HEADING].rstrip()


def read_outline(markdown: str, keeps_blocks: bool = True) -> Outline:
    """Scan `markdown` once; without `keeps_blocks` code and tables are blocks like any other."""
    scanner = _Scanner(len(markdown), keeps_blocks)
    for line in _LINE.finditer(markdown):
        if line.end() > line.start():
            scanner.read(line.start(), line.group())
    return scanner.outline
