"""Puts blocks of Markdown below each other: in lists, in quotes, or on one line in a table's cell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from kb_pipeline.clean.html.inline import code_span

_LONGEST_TITLE = 60
_NO_PARAGRAPH = re.compile(r"\s*(?:- |\d{1,9}\. |[|>\s]|\Z)")


class Block(NamedTuple):
    """A block of Markdown on lines of its own."""

    text: str
    verbatim: bool = False
    """Whether it is a code fence: never indented, so that code stays byte for byte even inside lists and quotes."""
    glued: bool = False
    """Whether it follows the previous block without an empty line, as items of a tight list do."""
    heading: bool = False
    """Whether it is a heading: at the margin even inside a list, since an indented one is no heading to chunking."""
    term: bool = False
    """Whether the next paragraph explains it: a defined term, the title of a note."""

    @property
    def is_at_margin(self) -> bool:
        """Whether it is never indented."""
        return self.verbatim or self.heading

    @property
    def is_paragraph(self) -> bool:
        """Whether it is text: no code, no heading, no item and no row of a table."""
        return not (self.is_at_margin or _NO_PARAGRAPH.match(self.text))


def join_blocks(blocks: Sequence[Block]) -> str:
    """Return the Markdown of a document."""
    pieces: list[str] = []
    for block in blocks:
        if pieces:
            pieces.append("\n" if block.glued else "\n\n")
        pieces.append(block.text)
    return "".join(pieces) + "\n" if pieces else ""


def quote(block: Block) -> Block:
    """Return a block as a quotation; code stays as it is."""
    return block if block.verbatim else block._replace(text="> " + block.text.replace("\n", "\n> "))


def explained(blocks: list[Block]) -> list[Block]:
    """Return the blocks with the first paragraph after each term glued to it, so that they are never parted."""
    out = blocks[:1]
    for before, block in pairwise(blocks):
        belongs = before.term and (block.term or block.is_paragraph)
        out.append(block._replace(glued=True) if belongs else block)
    return out


def titled(blocks: list[Block]) -> list[Block]:
    """Return the blocks of a note, its short title in bold and glued to the first paragraph."""
    if len(blocks) < 2 or not _is_title(blocks[0]):
        return blocks
    title = blocks[0].text
    return explained([Block(title if "*" in title else f"**{title}**", term=True), *blocks[1:]])


def _is_title(block: Block) -> bool:
    text = block.text
    return block.is_paragraph and len(text) <= _LONGEST_TITLE and "\n" not in text and text[-1] not in ".;,"


def on_one_line(blocks: Sequence[Block]) -> str:
    """Return blocks as the text of a table's cell: their lines parted by `<br>`, code as one span a line."""
    lines = (line for block in blocks for line in _cell_lines(block))
    return "<br>".join(line for line in lines if line.strip())


def _cell_lines(block: Block) -> list[str]:
    if block.verbatim:
        return [code_span(line.rstrip()) for line in block.text.split("\n")[1:-1]]
    if block.heading:
        name = block.text.lstrip("# ")
        return [name if "*" in name else f"**{name}**"]
    return [line.strip() for line in block.text.split("\n")]
