"""Extracts the plain text of Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token


@dataclass(frozen=True, slots=True)
class TextBlock:
    """One block of a document without its markup: a heading, a paragraph, a row of a table or a block of code."""

    kind: Literal["heading", "paragraph", "row", "code"]
    text: str


def plain_text(markdown: str) -> str:
    """Return headings, paragraphs, list items, table rows and code as lines, without markup and link targets."""
    return "\n".join(block.text for block in plain_blocks(markdown))


def plain_blocks(markdown: str) -> Iterator[TextBlock]:
    """Yield the blocks of a document in order, line breaks kept, each without markup and link targets."""
    from markdown_it import MarkdownIt

    is_heading = False
    cells: list[str] | None = None
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        if token.type == "tr_open":
            cells = []
        elif token.type == "tr_close":
            yield TextBlock("row", " ".join(cells or []))
            cells = None
        elif token.type in ("heading_open", "heading_close"):
            is_heading = token.type == "heading_open"
        elif token.type == "inline":
            text = _inline(token.children or [])
            if cells is None:
                yield TextBlock("heading" if is_heading else "paragraph", text)
            else:
                cells.append(text)
        elif token.type in ("fence", "code_block"):
            yield TextBlock("code", token.content.rstrip("\n"))


def _inline(tokens: Sequence[Token]) -> str:
    breaks = {"softbreak": "\n", "hardbreak": "\n"}
    return "".join(breaks.get(token.type, token.content) for token in tokens)
