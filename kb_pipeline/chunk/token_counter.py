"""Measures spans of one document in tokens: it is tokenized once, and every question is then a bisection."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kb_pipeline.chunk.link_text import strip_link_targets, targets_of

_LONGEST_UNIT = 16
"""Characters. A tokenizer may call a megabyte without spaces one unknown token; a chunk must not."""

_BLANKS = frozenset(" \t\r\n")
"""White space that every tokenizer treats as such; others may drop U+001C, or read U+200B as a letter."""


class Tokenizer(Protocol):
    """What chunking asks of the embedding model's tokenizer."""

    @property
    def overhead(self) -> int:
        """Tokens the model adds to every text: special ones and its prefix."""

    @property
    def adds_up(self) -> bool:
        """Whether the count of a text is the sum over its parts, when cut at white space."""

    def spans(self, text: str) -> NDArray[np.int64]:
        """Start and end offset of every token of `text`, one row each, starts in order."""

    def count(self, text: str) -> int:
        """How many tokens `text` has, without overhead."""


class TokenIndex:
    """Token positions of one text."""

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        self._text, self._tokenizer = text, tokenizer
        self._links = targets_of(text)
        self._tokens = np.maximum.accumulate(tokenizer.spans(text)[:, 0])
        self._units = self._without_targets(_split_long(self._tokens, len(text)))

    def units(self, start: int, end: int) -> int:
        """An estimate of the tokens in a span that is never far below the truth."""
        low, high = self._units.searchsorted((start, end))
        return int(high - low)

    def forward(self, start: int, units: int, end: int) -> int:
        """The furthest offset up to `end` with at most `units` between it and `start`, but beyond `start`."""
        index = int(self._units.searchsorted(start)) + units
        # One character can be many tokens (U+FDFA is eighteen): without the + 1 nothing would move.
        return min(end, max(start + 1, int(self._units[index]))) if index < len(self._units) else end

    def back(self, end: int, units: int) -> int:
        """The offset of the token that stands `units` before `end`."""
        index = max(0, int(self._units.searchsorted(end)) - units)
        return int(self._units[index]) if index < len(self._units) else end

    def count(self, start: int, end: int) -> int:
        """The exact count of the span's words, taken as a text of its own."""
        has_links = self._links[:, 2].searchsorted(start, "right") < self._links[:, 0].searchsorted(end)
        if has_links or not (self._tokenizer.adds_up and self._is_edge(start) and self._is_edge(end)):
            return self._tokenizer.count(strip_link_targets(self._text[start:end]))
        low, high = self._tokens.searchsorted((start, end))
        return int(high - low)

    def _without_targets(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Targets are not embedded, so they take no room."""
        link = self._links[:, 1].searchsorted(positions, "right") - 1
        inside = (
            (link >= 0) & (positions < self._links[link, 2]) if len(self._links) else np.zeros(len(positions), bool)
        )
        outside: NDArray[np.int64] = positions[~inside]
        return outside

    def _is_edge(self, offset: int) -> bool:
        return offset in (0, len(self._text)) or bool(_BLANKS & {self._text[offset - 1], self._text[offset]})


def _split_long(starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Add a position every `_LONGEST_UNIT` characters wherever two starts are further apart than four times that."""
    bounded = np.concatenate([[0], starts, [length]])
    gaps = np.diff(bounded)
    long = np.flatnonzero(gaps > 4 * _LONGEST_UNIT)
    extra = [np.arange(bounded[i] + _LONGEST_UNIT, bounded[i + 1], _LONGEST_UNIT) for i in long]
    return np.sort(np.concatenate([starts, *extra])) if extra else starts
