"""Builds the text of a chunk that is embedded and full-text indexed: a context line, then the chunk's text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import ceil

from kb_pipeline.chunk.outline import COLUMN_SEPARATOR, heading_name
from kb_pipeline.link_text import strip_link_targets

_TITLE_BUDGET = 20
_HEADINGS_BUDGET = 32
"""In estimated tokens; together a fifth of the default window, so that context does not crowd out the text."""
_COLUMNS_BUDGET = 28
_ABOVE_COLUMNS_BUDGET = 14
"""In a table, for its column names and the headings above: with the title still less than a quarter of the window."""

_PART = re.compile(r"[A-Za-z]+|[^\W\d_\u2e80-\U0010ffff]+|\S")
_LINE_END = re.compile(r"[\r\n]")


def embedding_text(title: str, headings: Sequence[str], text: str) -> str:
    """Return the chunk's text below its context line; the same for every model and every chunking."""
    line, words = context_line(title, headings, text), strip_link_targets(text)
    return f"{line}\n\n{words}" if line else words


def context_line(title: str, headings: Sequence[str], text: str) -> str:
    """Return title and heading path in one short line, without the heading that `text` starts with; may be empty.

    The last of `headings` may be the column names of the table that `text` goes on with.
    """
    path = [" ".join(heading.split()) for heading in headings]
    if path and path[-1] == _opening_heading(text):
        path.pop()
    name = " ".join(title[:1000].split())
    if path and _same(path[0], name):
        path.pop(0)
    if _same(_opening_heading(text), name):
        name = ""
    parts = [truncate(name, _TITLE_BUDGET), *_innermost(path)]
    return " > ".join(part for part in parts if part)


def truncate(text: str, budget: int) -> str:
    """Return the longest beginning of `text`, in whole words, of at most `budget` estimated tokens."""
    spent = 0
    for part in _PART.finditer(text):
        spent += _estimate(part.group())
        if spent > budget:
            return text[: part.start()].rstrip() or text[:budget]
    return text


def _innermost(path: Sequence[str]) -> Iterable[str]:
    if path and COLUMN_SEPARATOR in path[-1]:
        return [*_nearest(path[:-1], _ABOVE_COLUMNS_BUDGET), truncate(path[-1], _COLUMNS_BUDGET)]
    return _nearest(path, _HEADINGS_BUDGET)


def _nearest(path: Sequence[str], budget: int) -> Iterable[str]:
    # The nearest heading says most about a chunk, so outer ones are dropped first.
    kept: list[str] = []
    left = budget
    for heading in reversed(path):
        part = truncate(heading, left)
        if not part:
            break
        kept.append(part)
        left -= sum(_estimate(word) for word in _PART.findall(part)) + 1
        if left <= 0 or part != heading:
            break
    return reversed(kept)


def _estimate(part: str) -> int:
    # Overestimates: a model may split other alphabets into single characters.
    return ceil(len(part) / (3 if part.isascii() else 1)) if part.isalpha() else 1


def _opening_heading(text: str) -> str:
    return heading_name(_LINE_END.split(text[:1000], 1)[0])


def _same(one: str, other: str) -> bool:
    return bool(one) and one.casefold() == other.casefold()
