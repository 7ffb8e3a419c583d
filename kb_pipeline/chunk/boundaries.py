"""Chooses where a chunk ends and where the next one starts: block, sentence, word, token, in this order."""

from __future__ import annotations

import re

from kb_pipeline.chunk.outline import Outline
from kb_pipeline.chunk.token_counter import TokenIndex

# Only from the first full stop of a run, and without giving any back: a line of dots would take quadratic time.
_SENTENCE = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]*_]*+\s+|[。！？｡]+[」』）]*\s*")
_LINE = re.compile(r"\r\n?|\n")
_WORD = re.compile(r"\s+")


def best_stop(text: str, outline: Outline, tokens: TokenIndex, start: int, covered: int, end: int, budget: int) -> int:
    """Return where to end a chunk.

    Args:
        text: the document.
        outline: its blocks and headings.
        tokens: its token positions.
        start: where the chunk starts.
        covered: how far the previous chunk reaches; the stop lies beyond it if possible.
        end: where the section ends.
        budget: how many estimated tokens the chunk may have.
    """
    high = tokens.forward(start, budget, end)
    if high >= end:
        return end
    block = outline.unsplittable_at(high)
    if block and start < block[0] < high and tokens.estimated_tokens(block[0], min(block[1], end)) <= budget:
        return block[0]  # the block fits into a chunk of its own, but not into the rest of this one
    target = _target(tokens, start, end, budget, high)
    low = max(covered, start + (target - start) // 2)
    if block and block[0] < high:  # the block is too long for any chunk
        low = max(covered, start)
        return _nearest(_LINE, text, high, low, high) or _nearest(_WORD, text, high, low, high) or high
    return (
        outline.break_near(target, low, high)
        or _nearest(_SENTENCE, text, target, low, high, outline)
        or _nearest(_WORD, text, high, low, high, outline)
        or high
    )


def overlap_start(text: str, outline: Outline, tokens: TokenIndex, start: int, stop: int, overlap: int) -> int:
    """Return where the next chunk starts: up to `overlap` tokens before `stop`, at a sentence, else at a word."""
    if overlap <= 0 or outline.unsplittable_at(stop - 1):
        return stop  # code and tables are not repeated
    low = outline.after_unsplittable(max(start + 1, tokens.back(stop, overlap)), stop)
    for pattern in (_SENTENCE, _WORD):
        for found in pattern.finditer(text, low, stop):
            if found.end() < stop:
                return found.end()
    return stop


def _target(tokens: TokenIndex, start: int, end: int, budget: int, high: int) -> int:
    """Return the preferred end: half of what remains if that needs two chunks, so that the last one is not tiny."""
    remaining = tokens.estimated_tokens(start, end)
    return tokens.forward(start, remaining // 2, end) if remaining < 2 * budget else high


def _nearest(
    pattern: re.Pattern[str], text: str, target: int, low: int, high: int, outline: Outline | None = None
) -> int | None:
    stops = (found.end() for found in pattern.finditer(text, low, high) if low < found.end() <= high)
    free = (stop for stop in stops if not (outline and _is_inside(outline, stop)))
    return min(free, key=lambda stop: abs(stop - target), default=None)


def _is_inside(outline: Outline, offset: int) -> bool:
    block = outline.unsplittable_at(offset)
    return block is not None and block[0] < offset
