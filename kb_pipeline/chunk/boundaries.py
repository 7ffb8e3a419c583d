"""Chooses where a chunk ends and where the next one starts: block, sentence, word, token, in this order."""

from __future__ import annotations

import re

from kb_pipeline.chunk.outline import Outline
from kb_pipeline.chunk.token_counter import TokenIndex

# Only from the first full stop of a run, and without giving any back: a line of dots would take quadratic time.
_SENTENCE = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]*_]*+\s+|[。！？｡]+[」』）]*\s*")
_LINE = re.compile(r"\r\n?|\n")
_WORD = re.compile(r"\s+")


def best_stop(text: str, outline: Outline, ruler: TokenIndex, start: int, covered: int, end: int, room: int) -> int:
    """Where to stop a chunk that starts at `start` and may hold `room` units, after `covered` if at all possible."""
    high = ruler.forward(start, room, end)
    if high >= end:
        return end
    kept = outline.kept_block_at(high)
    if kept and kept[0] < high and kept[0] > start and ruler.units(kept[0], min(kept[1], end)) <= room:
        return kept[0]  # it fits as a whole, but not behind what stands before it
    target = _target(ruler, start, end, room, high)
    low = max(covered, start + (target - start) // 2)
    if kept and kept[0] < high:  # too long for any chunk
        low = max(covered, start)
        return _nearest(_LINE, text, high, low, high) or _nearest(_WORD, text, high, low, high) or high
    return (
        outline.break_near(target, low, high)
        or _nearest(_SENTENCE, text, target, low, high, outline)
        or _nearest(_WORD, text, high, low, high, outline)
        or high
    )


def overlap_start(text: str, outline: Outline, ruler: TokenIndex, start: int, stop: int, overlap: int) -> int:
    """Where the chunk after `stop` starts: before it by whole sentences, else words, of up to `overlap` units."""
    if overlap <= 0 or outline.kept_block_at(stop - 1):
        return stop  # code and tables are never repeated
    low = outline.after_kept(max(start + 1, ruler.back(stop, overlap)), stop)
    for unit in (_SENTENCE, _WORD):
        for found in unit.finditer(text, low, stop):
            if found.end() < stop:
                return found.end()
    return stop


def _target(ruler: TokenIndex, start: int, end: int, room: int, high: int) -> int:
    """A rest that needs two chunks is halved, so that the last one is no crumb."""
    rest = ruler.units(start, end)
    return ruler.forward(start, rest // 2, end) if rest < 2 * room else high


def _nearest(
    unit: re.Pattern[str], text: str, target: int, low: int, high: int, outline: Outline | None = None
) -> int | None:
    stops = (found.end() for found in unit.finditer(text, low, high) if low < found.end() <= high)
    free = (stop for stop in stops if not (outline and _is_inside(outline, stop)))
    return min(free, key=lambda stop: abs(stop - target), default=None)


def _is_inside(outline: Outline, offset: int) -> bool:
    kept = outline.kept_block_at(offset)
    return kept is not None and kept[0] < offset
