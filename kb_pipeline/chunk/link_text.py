"""The words of Markdown: what a reader sees of a link is its label, not its target."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

# A label without brackets, then a target that looks like one: `a[i](x)` in code is no link.
_LINK = re.compile(r"!?\[([^\[\]\n]{0,1000})\](\((?:[a-z][a-z0-9+.-]{0,20}:|[/#])[^()\s]{0,2000}\))")


def strip_link_targets(text: str) -> str:
    """The text with every link replaced by its label.

    In the reference pages of a generated manual targets are half of all tokens. They say nothing that a question
    would ask for, crowd words out of the model's window and cost as much as words do.
    """
    return _LINK.sub(r"\1", text)


def targets_of(text: str) -> NDArray[np.int64]:
    """Start and end of every link in `text` and of its target, one row each: link start, target start, end."""
    found = [(link.start(), link.start(2), link.end()) for link in _LINK.finditer(text)]
    return np.array(found, dtype=np.int64).reshape(-1, 3)
