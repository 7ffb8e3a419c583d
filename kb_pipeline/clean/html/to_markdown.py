"""Writes the content of a page as Markdown, with code, tables and headings intact."""

from __future__ import annotations

import re
from itertools import islice

from kb_pipeline.clean.html.blocks import Block, explained, join_blocks, on_one_line, quote, titled
from kb_pipeline.clean.html.code import VERBATIM, write_fence
from kb_pipeline.clean.html.flatten import flatten
from kb_pipeline.clean.html.grid import nested_lines, read_grid, write_grid
from kb_pipeline.clean.html.inline import (
    Element,
    InlineWriter,
    code_span,
    collapse,
    escape_text,
    flat_text,
    join_inline,
    paragraph,
)
from kb_pipeline.clean.html.layout import cells_below_names, is_data_table, list_markers
from kb_pipeline.clean.html.lists import LISTS, Numbering, children_of, indent, is_item, is_short_item, item_blocks
from kb_pipeline.clean.html.tables import Cell, Table, read_table, table_part

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS_TEXT = """
    address article aside blockquote body center dd details dialog dir div dl dt fieldset figcaption
    figure footer form header hgroup hr legend li main menu nav ol p pre section summary table tbody td
    tfoot th thead tr ul xmp listing caption
"""
_BLOCKS = frozenset(_BLOCKS_TEXT.split()) | frozenset(_HEADINGS)
_ADMONITIONS_TEXT = """
    note tip warning caution important admonition admonitionblock theme-admonition markdown-alert alert callout hint
    danger info attention notice seealso bd-callout custom-block hint-container starlight-aside
"""
_ADMONITIONS = frozenset(_ADMONITIONS_TEXT.split())
_LABELS = frozenset({"summary", "legend"})
_LABEL = re.compile(r"\W*\w+(?:\W+\w+)?\W*")
"""The title of a note that only says that it is one, in a word or two; a longer one is a heading."""
_BLOCK_ROLES = frozenset({"heading", "list", "listitem"})
_BLOCK_STYLE = re.compile(r"(?:^|[;\s])display\s*:\s*(?:block|flex|grid|list-item)", re.I)
_INLINE = frozenset({"code", "kbd", "samp", "tt", "br"})
_EMPTY_LINES = re.compile(r"\n{2,}")


def write_markdown(root: Element, base_url: str) -> tuple[str, int]:
    """Return the Markdown of a tree and the number of links in it."""
    flatten(root)
    writer = _Writer(base_url, _unusual_blocks(root))
    return join_blocks(writer.blocks(root)), writer.inline.links


class _Writer:
    def __init__(self, base_url: str, unusual_blocks: set[Element]) -> None:
        self.inline = InlineWriter(base_url)
        self._unusual_blocks = unusual_blocks
        self._open_cells = 0

    def blocks(self, element: Element) -> list[Block]:
        """Return the blocks inside an element; inline content between them becomes paragraphs."""
        out: list[Block] = []
        run = [escape_text(element.text)]
        for child in element:
            if self._is_block(child):
                out += _paragraphs(run)
                out += self._block(child)
                run = []
            else:
                run.append(self.inline.element(child))
            run.append(escape_text(child.tail))
        return out + _paragraphs(run)

    def _is_block(self, element: Element) -> bool:
        return element.tag in _BLOCKS or element in self._unusual_blocks

    def _block(self, element: Element) -> list[Block]:
        tag = element.tag
        if level := _heading_level(element):
            return self._heading(element, level)
        if tag in VERBATIM:
            return _fence(element)
        if tag in LISTS or element.get("role") == "list":
            return self._list(element)
        if table_part(element) == "table":
            return self._table(element)
        if tag == "dt":
            return self._term(element)
        if tag in _LABELS:
            return self._label(element)
        if tag == "li":  # outside of any list
            inner = self.blocks(element)
            return item_blocks(inner, "- ", glued=False) if inner else []
        if tag not in _BLOCKS and not any(self._is_block(child) for child in element):
            return _paragraphs([self.inline.element(element)])
        inner = self.blocks(element)
        if tag == "blockquote":  # with several headings, it only indents a part of the page
            return inner if sum(block.heading for block in inner) > 1 else [quote(block) for block in inner]
        if tag == "dl":
            return explained(inner)
        return titled(inner) if _is_admonition(element) else inner

    def _heading(self, element: Element, level: int) -> list[Block]:
        if any(child.tag in VERBATIM or child.tag == "table" for child in element.iter()):
            return self.blocks(element)
        title = collapse(self.inline.without_links(element)).replace("\n", " ")
        title = re.sub(r" {2,}", " ", title)
        if not title:
            return []
        if _LABEL.fullmatch(title) and any(_is_admonition(around) for around in islice(element.iterancestors(), 2)):
            return [Block(title if "*" in title else f"**{title}**")]
        return [Block(f"{'#' * level} {title}", heading=True)]

    def _term(self, element: Element) -> list[Block]:
        """Write a defined term: links, blocks and lines as they are, a signature as code, words in bold."""
        if any(_is_kept_in_term(child) for child in element.iterdescendants()):
            blocks = self.blocks(element)
            return [blocks[0]._replace(term=True)] if len(blocks) == 1 and blocks[0].is_paragraph else blocks
        term = flat_text(element)
        if not term:
            return []
        is_code = "sig" in (element.get("class") or "").split() or any(True for _ in element.iter("code", "tt"))
        return [Block(code_span(term), term=True)] if is_code else self._label(element)

    def _label(self, element: Element) -> list[Block]:
        """Write what names the text below it: in bold, or as it is if it has blocks."""
        if any(self._is_block(child) for child in element):
            return self.blocks(element)
        name = collapse(self.inline.children(element)).replace("\n", " ").replace("*", "")
        return [block._replace(term=element.tag == "dt") for block in _paragraphs([f"**{name}**"])] if name else []

    def _list(self, element: Element) -> list[Block]:
        out: list[Block] = []
        numbering = Numbering(element)
        was_tight = True
        for child in children_of(element):
            if child.tag in LISTS:
                out += indent(self._list(child), "  ")
                continue
            inner = self.blocks(child) if is_item(child) else self._outside_item(child)
            marker = numbering.marker(child) if is_item(child) else "- "
            if not inner:
                continue
            tight = sum(not block.glued for block in inner) == 1 or is_short_item(inner)
            glued = bool(out) and tight and was_tight and not out[-1].is_at_margin
            out += item_blocks(inner, marker, glued=glued)
            was_tight = tight
        return out

    def _outside_item(self, element: Element) -> list[Block]:
        """Write a child of a list that is no item."""
        return self._block(element) if self._is_block(element) else _paragraphs([self.inline.element(element)])

    def _table(self, element: Element) -> list[Block]:
        """Write a data table as a GFM table, a list that is laid out as a table as one, others as their content."""
        table = read_table(element)
        around = [block for part in (*table.captions, *table.strays) for block in self._around_table(part)]
        if (markers := list_markers(table)) is not None:
            return around + self._laid_out_list(table, markers)
        if not is_data_table(table):
            return around + [block for cell in cells_below_names(table) for block in self._loose_cell(cell)]
        grid = read_grid(table, self._cell, repeats=not self._open_cells)
        if self._open_cells:
            return around + [Block(line) for line in nested_lines(grid)]
        titles = [Block(title) for title in grid.titles if title]
        return around + titles + ([Block(write_grid(grid))] if grid.head else [])

    def _around_table(self, part: Element | str) -> list[Block]:
        if isinstance(part, str):
            return _paragraphs([escape_text(part)])
        return self._outside_item(part)

    def _laid_out_list(self, table: Table, markers: list[str]) -> list[Block]:
        out: list[Block] = []
        for row, marker in zip(table.rows, markers, strict=True):
            inner = self.blocks(row.cells[1].element) or [Block("")]
            out += item_blocks(inner, f"- {marker} " if marker else "- ", glued=False)
        return out

    def _loose_cell(self, cell: Cell) -> list[Block]:
        """Write a cell that is part of the page, and not of a row."""
        return self._label(cell.element) if cell.is_name else self.blocks(cell.element)

    def _cell(self, cell: Element) -> str:
        self._open_cells += 1
        try:
            return on_one_line(self.blocks(cell))
        finally:
            self._open_cells -= 1


def _paragraphs(run: list[str]) -> list[Block]:
    """Return the paragraphs in inline content: two line breaks part them."""
    text = join_inline(run)
    if not text or text.isspace():
        return []
    return [Block(lines) for lines in _EMPTY_LINES.split(paragraph(text)) if lines]


def _heading_level(element: Element) -> int:
    """Return the level of a heading by its tag or its role; 0 for any other element."""
    if element.get("role") == "heading" and element.tag not in VERBATIM:
        level = element.get("aria-level", "2").strip()
        return min(max(int(level), 1), 6) if level.isdecimal() and len(level) < 6 else 2
    return _HEADINGS.get(element.tag, 0)


def _is_block(element: Element) -> bool:
    """Return whether an element is a block by its tag, its role or its style."""
    if element.tag in _BLOCKS or element.get("role") in _BLOCK_ROLES:
        return True
    style = element.get("style")
    if style is not None and element.tag not in _INLINE and _BLOCK_STYLE.search(style[:1000]):
        return True
    return table_part(element) == "table"


def _is_kept_in_term(element: Element) -> bool:
    return element.tag == "br" or (element.tag == "a" and bool(element.get("href"))) or _is_block(element)


def _is_admonition(element: Element) -> bool:
    """Return whether an element is an admonition, whose heading (Note, Warning) is not a section's."""
    return not _ADMONITIONS.isdisjoint((element.get("class") or "").lower().split())


def _fence(element: Element) -> list[Block]:
    fence = write_fence(element)
    return [Block(fence, verbatim=True)] if fence else []


def _unusual_blocks(root: Element) -> set[Element]:
    """Return the elements that are blocks, but not by their tags: by their role or style, or since they hold blocks."""
    found = {element for element in root.xpath(".//*[@role or @style]") if _is_block(element)}
    for element in [*found, *root.iter(*_BLOCKS)]:
        parent = element.getparent()
        while parent is not None and parent not in found:
            found.add(parent)
            parent = parent.getparent()
    return found
