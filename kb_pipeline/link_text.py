"""Tells the labels of Markdown links from their targets, of which a reader sees only the label."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# A label without brackets, then a target that looks like one: `a[i](x)` in code is no link.
_LINK = re.compile(r"!?\[([^\[\]\n]{0,1000})\](\((?:[a-z][a-z0-9+.-]{0,20}:|[/#])[^()\s]{0,2000}\))")


def strip_link_targets(text: str) -> str:
    """Return the text with every link replaced by its label.

    In reference pages of generated manuals, targets are half of all tokens. They hold nothing that a question would ask
    for, crowd words out of the model's window and cost as much as words.
    """
    return _LINK.sub(r"\1", text)


def link_spans(text: str) -> NDArray[np.int64]:
    """Return the offsets of every link in `text`, shape (links, 3): link start, target start, link end."""
    found = [(link.start(), link.start(2), link.end()) for link in _LINK.finditer(text)]
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def split_at_links(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield the text before, in and between links: pieces without a target, and labels with theirs."""
    position = 0
    for link in _LINK.finditer(text):
        yield text[position : link.start()], None
        yield link[1], link[2][1:-1]
        position = link.end()
    yield text[position:], None
