"""Writes the content of a page as Markdown, with code, tables and headings intact."""

from __future__ import annotations

import re
from typing import NamedTuple

from kb_pipeline.clean.html.inline import (
    Element,
    InlineWriter,
    code_span,
    collapse,
    escape_text,
    flat_text,
    longest_run,
    paragraph,
)
from kb_pipeline.clean.html.tables import is_data_table, table_rows, write_table

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS_TEXT = """
    address article aside blockquote body center dd details dialog dir div dl dt fieldset figcaption
    figure footer form header hgroup hr legend li main menu nav ol p pre section summary table tbody td
    tfoot th thead tr ul xmp listing caption
"""
_BLOCKS = frozenset(_BLOCKS_TEXT.split()) | frozenset(_HEADINGS)
_LISTS = frozenset({"ul", "ol", "menu", "dir"})
_VERBATIM = frozenset({"pre", "xmp", "listing"})
_ADMONITIONS = frozenset({"note", "tip", "warning", "caution", "important", "admonition"})
_LANGUAGE = re.compile(
    r"(?:^|\s)(?:language|lang|highlight-source|highlight|brush:?)[-\s]\s*([A-Za-z0-9+#.]{1,20})(?:\s|$)"
)
_NO_LANGUAGE = frozenset({"default", "none", "text", "plaintext", "plain", "notranslate", "txt"})
_MAX_DEPTH = 60


class Block(NamedTuple):
    """A block of Markdown on lines of its own."""

    text: str
    verbatim: bool = False
    """Whether it is a code fence: never indented, so that code stays byte for byte even inside lists and quotes."""
    glued: bool = False
    """Whether it follows the previous block without an empty line, as items of a tight list do."""


def write_markdown(root: Element, base_url: str) -> tuple[str, int]:
    """Return the Markdown of a tree and the number of links in it."""
    _flatten(root)
    writer = _Writer(base_url)
    return _join_blocks(writer.blocks(root)), writer.inline.links


class _Writer:
    def __init__(self, base_url: str) -> None:
        self.inline = InlineWriter(base_url)

    def blocks(self, element: Element) -> list[Block]:
        """Return the blocks inside an element; inline content between them becomes paragraphs."""
        out: list[Block] = []
        run = [escape_text(element.text)]
        for child in element:
            if _is_block(child):
                out += self._paragraph(run)
                out += self._block(child)
                run = []
            else:
                run.append(self.inline.element(child))
            run.append(escape_text(child.tail))
        return out + self._paragraph(run)

    def _paragraph(self, run: list[str]) -> list[Block]:
        lines = paragraph("".join(run))
        return [Block(lines)] if lines else []

    def _block(self, element: Element) -> list[Block]:
        tag = element.tag
        if tag in _HEADINGS:
            return self._heading(element)
        if tag in _VERBATIM:
            return _fence(element)
        if tag in _LISTS:
            return self._list(element)
        if tag == "table":
            return self._table(element)
        if tag == "dt":
            return self._term(element)
        if tag == "blockquote":
            return [block if block.verbatim else _quote(block) for block in self.blocks(element)]
        return self.blocks(element)

    def _heading(self, element: Element) -> list[Block]:
        if any(child.tag in _VERBATIM for child in element.iter()):
            return self.blocks(element)
        title = collapse(self.inline.without_links(element)).replace("\n", " ")
        if not title:
            return []
        if _is_admonition(element.getparent()):
            return [Block(title if "*" in title else f"**{title}**")]
        return [Block(f"{'#' * _HEADINGS[element.tag]} {title}")]

    def _term(self, element: Element) -> list[Block]:
        """Write a defined term: links and nested blocks as they are, a signature as code, words in bold."""
        if any((child.tag == "a" and child.get("href")) or _is_block(child) for child in element.iterdescendants()):
            return self.blocks(element)
        term = flat_text(element)
        if not term:
            return []
        is_code = "sig" in (element.get("class") or "").split() or any(True for _ in element.iter("code", "tt"))
        return [Block(code_span(term))] if is_code else self._paragraph([f"**{self._plain(element)}**"])

    def _plain(self, element: Element) -> str:
        return collapse(self.inline.children(element)).replace("\n", " ").replace("*", "")

    def _list(self, element: Element) -> list[Block]:
        out: list[Block] = []
        number = _start(element)
        was_tight = True
        for child in element:
            if child.tag in _LISTS:
                out += _indent(self._list(child), "  ")
                continue
            inner = self.blocks(child) if child.tag == "li" else self._outside_item(child)
            if not inner:
                continue
            marker = "- " if number is None else f"{number}. "
            number = None if number is None else number + 1
            tight = sum(not block.glued for block in inner) == 1 or _is_short_item(inner)
            out += _item(inner, marker, glued=bool(out) and tight and was_tight and not out[-1].verbatim)
            was_tight = tight
        return out

    def _outside_item(self, element: Element) -> list[Block]:
        """Write a child of a list that is no item."""
        return self._block(element) if _is_block(element) else self._paragraph([self.inline.element(element)])

    def _table(self, element: Element) -> list[Block]:
        """Write a data table as a GFM table, and a layout table as its content."""
        captions = [block for caption in element.iterchildren("caption") for block in self.blocks(caption)]
        rows = table_rows(element)
        if not is_data_table(element, rows):
            cells = (cell for row in rows for cell in row)
            return captions + [block for cell in cells for block in self.blocks(cell)]
        return [*captions, *(Block(lines) for lines in write_table(rows, self._cell))]

    def _cell(self, cell: Element) -> str:
        return "<br>".join(block.text.replace("\n", " ") for block in self.blocks(cell))


def _is_block(element: Element) -> bool:
    """Return whether an element is a block, or inline but contains one."""
    return element.tag in _BLOCKS or (
        len(element) > 0 and any(child.tag in _BLOCKS for child in element.iterdescendants())
    )


def _is_admonition(element: Element | None) -> bool:
    """Return whether an element is an admonition, whose heading (Note, Warning) is not a section's."""
    return element is not None and not _ADMONITIONS.isdisjoint((element.get("class") or "").lower().split())


def _fence(element: Element) -> list[Block]:
    """Write code between fences longer than any run of backticks in it."""
    code = verbatim_text(element)
    if not code.strip():
        return []
    ticks = "`" * max(3, longest_run(code) + 1)
    end = "" if code.endswith("\n") else "\n"
    return [Block(f"{ticks}{_code_language(element)}\n{code}{end}{ticks}", verbatim=True)]


def verbatim_text(element: Element) -> str:
    """Return the text of a `pre` as a browser shows it: without the first newline, with a newline for each `br`."""
    for line_break in element.iter("br"):
        line_break.text = "\n"
    return "".join(element.itertext()).removeprefix("\n")


def _code_language(element: Element) -> str:
    """Return the language that the class of the `pre`, its `code` or its two nearest ancestors names; empty if none."""
    around = [element, *element.iterchildren("code"), *list(element.iterancestors())[:2]]
    for candidate in around:
        found = _LANGUAGE.search(candidate.get("class") or "")
        name = found[1] if found else candidate.get("data-lang", "")
        if re.fullmatch(r"[A-Za-z0-9+#.]{1,20}", name) and name.lower() not in _NO_LANGUAGE:
            return str(name.lower())
    return ""


def _start(element: Element) -> int | None:
    """Return the number of a list's first item; None for an unordered list."""
    if element.tag != "ol":
        return None
    start = element.get("start", "1")
    return int(start) if start.isdecimal() and len(start) < 9 else 1


def _is_short_item(blocks: list[Block]) -> bool:
    """Return whether an item is one paragraph, followed by nested items at most."""
    return all(block.glued or block.text.lstrip().startswith(("- ", "1. ")) for block in blocks[1:])


def _item(blocks: list[Block], marker: str, *, glued: bool) -> list[Block]:
    """Return the blocks of a list item: the first after its marker, the others indented below it."""
    first, rest = blocks[0], blocks[1:]
    if first.verbatim:
        return blocks
    if rest and _is_short_item(blocks):
        rest = [rest[0]._replace(glued=True), *rest[1:]]
    pad = " " * len(marker)
    head = Block(marker + first.text.replace("\n", "\n" + pad), glued=glued)
    return [head, *_indent(rest, pad)]


def _indent(blocks: list[Block], pad: str) -> list[Block]:
    """Indent blocks up to the first code fence: that one and those after it end the list."""
    out: list[Block] = []
    for index, block in enumerate(blocks):
        if block.verbatim:
            return out + blocks[index:]
        out.append(block._replace(text=pad + block.text.replace("\n", "\n" + pad)))
    return out


def _quote(block: Block) -> Block:
    return block._replace(text="> " + block.text.replace("\n", "\n> "))


def _join_blocks(blocks: list[Block]) -> str:
    pieces: list[str] = []
    for block in blocks:
        if pieces:
            pieces.append("\n" if block.glued else "\n\n")
        pieces.append(block.text)
    return "".join(pieces) + "\n" if pieces else ""


def _flatten(root: Element) -> None:
    """Unwrap elements nested too deep, so that recursion stays shallow; no text is lost."""
    depths = {root: 0}
    too_deep = []
    for element in root.iterdescendants():
        depth = depths[element] = depths[element.getparent()] + 1
        if depth > _MAX_DEPTH:
            too_deep.append(element)
    for element in too_deep:
        if element.tag in _BLOCKS:
            element.text = f" {element.text or ''}"
        element.drop_tag()
