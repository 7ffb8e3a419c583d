"""Counts the tokens of spans of one document: it is tokenized once, and every count is then a bisection."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kb_pipeline.link_text import link_spans, strip_link_targets

_MAX_TOKEN_CHARS = 16
"""Characters that an estimated token has at most: a tokenizer may call a megabyte without spaces one unknown token."""

_BLANKS = frozenset(" \t\r\n")
"""White space to every tokenizer; some tokenizers drop U+001C, or treat U+200B as a letter."""


class Tokenizer(Protocol):
    """What chunking needs of the embedding model's tokenizer."""

    @property
    def overhead(self) -> int:
        """The number of tokens that the model adds to every text: special tokens and its prefix."""

    @property
    def adds_up(self) -> bool:
        """Whether the count of a text is the sum of its parts' counts when it is cut at white space."""

    def spans(self, text: str) -> NDArray[np.int64]:
        """Return the start and end offset of every token of `text`, shape (tokens, 2), in order of starts."""

    def count(self, text: str) -> int:
        """Return how many tokens `text` has, without overhead."""


class TokenIndex:
    """The token positions of one text."""

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        self._text, self._tokenizer = text, tokenizer
        self._links = link_spans(text)
        self._tokens = np.maximum.accumulate(tokenizer.spans(text)[:, 0])
        self._estimated = self._without_targets(_split_long(self._tokens, len(text)))

    def estimated_tokens(self, start: int, end: int) -> int:
        """Return an estimate of the tokens in a span, never far below the true count."""
        low, high = self._estimated.searchsorted((start, end))
        return int(high - low)

    def forward(self, start: int, tokens: int, end: int) -> int:
        """Return the furthest offset beyond `start`, up to `end`, with at most `tokens` tokens from `start` to it."""
        index = int(self._estimated.searchsorted(start)) + tokens
        # One character can be many tokens (U+FDFA is eighteen): without the + 1 there would be no progress.
        return min(end, max(start + 1, int(self._estimated[index]))) if index < len(self._estimated) else end

    def back(self, end: int, tokens: int) -> int:
        """Return the offset of the token that is `tokens` tokens before `end`."""
        index = max(0, int(self._estimated.searchsorted(end)) - tokens)
        return int(self._estimated[index]) if index < len(self._estimated) else end

    def count(self, start: int, end: int) -> int:
        """Return the exact number of tokens of the span, taken as a text of its own, without link targets."""
        has_links = self._links[:, 2].searchsorted(start, "right") < self._links[:, 0].searchsorted(end)
        if has_links or not (self._tokenizer.adds_up and self._is_edge(start) and self._is_edge(end)):
            return self._tokenizer.count(strip_link_targets(self._text[start:end]))
        low, high = self._tokens.searchsorted((start, end))
        return int(high - low)

    def _without_targets(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Drop the positions inside link targets, which are not embedded."""
        link = self._links[:, 1].searchsorted(positions, "right") - 1
        inside = (
            (link >= 0) & (positions < self._links[link, 2]) if len(self._links) else np.zeros(len(positions), bool)
        )
        outside: NDArray[np.int64] = positions[~inside]
        return outside

    def _is_edge(self, offset: int) -> bool:
        return offset in (0, len(self._text)) or bool(_BLANKS & {self._text[offset - 1], self._text[offset]})


def _split_long(starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Add a position every `_MAX_TOKEN_CHARS` characters where two starts are further apart than four times that."""
    bounded = np.concatenate([[0], starts, [length]])
    gaps = np.diff(bounded)
    long = np.flatnonzero(gaps > 4 * _MAX_TOKEN_CHARS)
    extra = [np.arange(bounded[i] + _MAX_TOKEN_CHARS, bounded[i + 1], _MAX_TOKEN_CHARS) for i in long]
    return np.sort(np.concatenate([starts, *extra])) if extra else starts
