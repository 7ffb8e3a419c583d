"""Splits the Markdown of a chunk into its sentences, in any language, each with its place in the chunk.

Blocks are told apart by a Markdown parser first: an item of a list, a row of a table and a block of code are each read
on their own, so that a full stop in code ends no sentence, and no sentence goes from one cell into the next. Prose is
split by sentencex, which knows the abbreviations and the ends of sentences (。 । ؟ ۔ and others) of some 240 languages.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from kb_pipeline.link_text import link_spans, strip_link_targets

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

MAX_CHARS = 600
"""A longer one (text without full stops, a long block of code) is cut, so that a reader sees what answers."""

_LINE = re.compile(r"[^\n]*\n|[^\n]+\Z")
_MARKER = re.compile(r"(?:\s|>|[-*+](?=\s)|\d{1,9}[.)](?=\s)|#{1,6}(?=\s))*")
"""What stands before the text of a block: signs of quotes, lists and headings."""
_ATOM = re.compile(r"(?<!`)`[^`\n]{1,200}`(?!`)|``(?!`)[^\n]{1,200}?``(?!`)|\bhttps?://[^\s<>]{0,2000}[^\s<>.,;:!?)\]]")
"""Code or an address within prose: as in a link, nothing in it ends a sentence."""
_NOT_WORD = re.compile(r"\W")
_CLOSING = re.compile(r"[*_]+(?=\s|\Z)")
"""The end of emphasis, which belongs to the sentence that it closes."""
_QUOTE_SIGN = re.compile(r"\n[ >]+")
_EMPHASIS = re.compile(r"(?<!\\)(?:\*\*|__|`+)|(?<![\w\\])[*_](?=\w)|(?<=[\w.,!?])[*_](?!\w)")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_FENCE = re.compile(r"[ >]*(?:```|~~~)")
_NO_LINE_END = re.compile(r"\r")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, a row of a table or a block of code."""

    text: str
    """As it is read, without markup and in one line unless it is code."""
    start: int
    """Offset of its first character in the chunk's text."""
    end: int
    is_heading: bool = False


def split_sentences(markdown: str, language: str) -> list[Sentence]:
    """Return the sentences of a chunk's text, in order; `markdown[start:end]` is each as it is stored.

    Args:
        markdown: of one chunk; it may begin and end anywhere in a document.
        language: ISO 639; for one that is not known, or `und`, English rules hold.
    """
    lines = [0, *(found.end() for found in _LINE.finditer(markdown))]
    found: list[Sentence] = []
    for token, is_heading in _blocks(markdown):
        first, last = token.map or (0, 0)
        start, end = lines[min(first, len(lines) - 1)], lines[min(last, len(lines) - 1)]
        if token.type in ("fence", "code_block"):
            found += _code(markdown, start, end)
        elif token.type == "tr_open":
            found += _row(markdown, start, end)
        else:
            found += _prose(markdown, start, end, language, is_heading=is_heading)
    return found


def _blocks(markdown: str) -> Iterator[tuple[Token, bool]]:
    """Yield the tokens that hold text, in order, and whether each is a heading."""
    is_heading = in_table = False
    # A lone carriage return is a line end to the parser, and none in our count of lines.
    for token in _parser().parse(_NO_LINE_END.sub(" ", markdown)):
        if token.type in ("table_open", "table_close"):
            in_table = token.type == "table_open"
        elif token.type in ("heading_open", "heading_close"):
            is_heading = token.type == "heading_open"
        elif token.type == "tr_open" or token.type in ("fence", "code_block", "html_block"):
            yield token, False
        elif token.type == "inline" and not in_table:
            yield token, is_heading


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # Its own reading of what is within a line is not needed: places there are not told.
    return MarkdownIt("commonmark").enable("table").disable("reference").disable(["inline"])


def _prose(markdown: str, start: int, end: int, language: str, *, is_heading: bool) -> Iterator[Sentence]:
    from sentencex import get_sentence_boundaries

    marker = _MARKER.match(markdown, start, end)
    start = marker.end() if marker else start
    text = _without_atoms(markdown[start:end])
    first = 0
    for found in get_sentence_boundaries(language, text):
        stop = found["end_index"]
        closing = _CLOSING.match(text, stop) if not text[stop - 1].isspace() else None
        stop = closing.end() if closing else stop
        yield from _pieces(markdown, start + first, start + stop, is_heading=is_heading)
        first = max(first, stop)


def _without_atoms(text: str) -> str:
    """Return a text of the same length whose links, code and addresses are words, to be split into sentences."""
    masked = list(_ATOM.sub(lambda atom: _NOT_WORD.sub("x", atom[0]), text))
    for start, _, end in link_spans(text).tolist():
        masked[start:end] = "x" * (end - start)
    return _SURROGATE.sub("\ufffd", "".join(masked))


def _pieces(markdown: str, start: int, end: int, *, is_heading: bool) -> Iterator[Sentence]:
    """Yield a stretch of prose, in pieces if it is too long."""
    while start < end:
        stop = end if end - start <= MAX_CHARS else _cut(markdown, start, end)
        first, last = _stripped(markdown, start, stop)
        if text := plain_sentence(markdown[first:last]):
            yield Sentence(text, first, last, is_heading)
        start = stop


def _cut(markdown: str, start: int, end: int) -> int:
    """Return where a stretch that is too long is cut: at even distances, after white space if there is some."""
    size = (end - start) // -(-(end - start) // MAX_CHARS)
    blank = max(markdown.rfind(each, start + size // 2, start + size) for each in " \n")
    return blank + 1 if blank >= 0 else start + size


def _row(markdown: str, start: int, end: int) -> Iterator[Sentence]:
    first, last = _stripped(markdown, start, end)
    text = " ".join(plain_sentence(markdown[first:last].replace("|", " ")).split())
    if text:
        yield Sentence(text, first, last)


def _code(markdown: str, start: int, end: int) -> Iterator[Sentence]:
    """Yield the lines of a block of code, as many together as a reader can take in; its fences are not code."""
    lines = [(found.start(), found.end()) for found in _LINE.finditer(markdown, start, end)]
    if lines and _FENCE.match(markdown, *lines[0]):
        lines.pop(0)
        if lines and _FENCE.match(markdown, *lines[-1]):
            lines.pop()
    while lines:
        count = max(1, bisect_left(lines, lines[0][0] + MAX_CHARS, key=lambda line: line[1]))
        first, last = _stripped(markdown, lines[0][0], lines[count - 1][1])
        if first < last:
            yield Sentence(markdown[first:last], first, last)
        del lines[:count]


def plain_sentence(markdown: str) -> str:
    """Return a sentence as it is read: link targets, emphasis and code marks left out, in one line."""
    text = _QUOTE_SIGN.sub("\n", strip_link_targets(markdown))
    return " ".join(_ESCAPED.sub(r"\1", _EMPHASIS.sub("", text)).split())


def _stripped(markdown: str, start: int, end: int) -> tuple[int, int]:
    """Return the stretch without white space at its ends."""
    text = markdown[start:end]
    return start + len(text) - len(text.lstrip()), end - (len(text) - len(text.rstrip()))
