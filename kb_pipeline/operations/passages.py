"""Chooses the passage of each hit that a person wants to read: around the words of the query, or nearest in meaning."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log

from kb_pipeline.clean.plain_text import TextBlock, plain_blocks
from kb_pipeline.index.query_words import find_query_words, joined_spans, match_quality, read_words, weigh_query
from kb_pipeline.index.search import Hit
from kb_pipeline.model import Record

MAX_CHARS = 240
"""Of a passage, unless a line of code is longer: about three lines of a terminal."""
_MAX_UNIT_CHARS = 160
"""A longer sentence is cut at white space, so that a passage can begin within it."""
_TELLING = 0.5
"""A word of the query that weighs less by its form, such as `do` or `a`, tells nothing of where the answer is."""
_MARKED = 0.3
"""Nor is a word marked that weighs less than this share of the heaviest one in its passage."""
_MAX_COMPARED = 32
"""Sentences of one result that are compared with the query by meaning: some 5 ms each."""
_SENTENCE = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]]*\s+|[。！？｡]+[」』）]*\s*")
_CUT = "…"
Similarities = Callable[[list[str]], Sequence[float]]
"""Gives the cosine of each text with the query."""


@dataclass(frozen=True, slots=True)
class Passage(Record):
    """What a person reads of a hit: plain text, and where the words of the query stand in it."""

    text: str
    marks: tuple[tuple[int, int], ...]
    """Start and end of each marked word, in order; none where only the meaning matches."""


@dataclass(frozen=True, slots=True)
class _Unit:
    """A sentence, a line of code or a row of a table; or a piece of a long one."""

    text: str
    before: str
    """What separates it from the unit before: white space."""
    is_cut: tuple[bool, bool]
    """Whether its sentence begins before it, and whether it goes on after it."""
    found: dict[str, float]
    """The words of the query in it, each with how well it matches at best."""


def choose_passages(
    hits: Sequence[Hit], query: str, similarities: Similarities | None = None, *, whole: bool = False
) -> list[Passage]:
    """Return the passage of each hit, in order.

    Args:
        hits: of one search.
        query: what was asked.
        similarities: called, with few sentences, for hits without a telling word of the query; if it is None, the
            passage of such a hit is its beginning.
        whole: whether each passage is all of its hit's text.
    """
    forms = weigh_query(query)
    texts = [_read_units(hit, forms) for hit in hits]
    words = _Words(forms, _weights(forms, [unit for units in texts for unit in units]))
    if whole:
        return [_passage(units, words) for units in texts]
    left = _MAX_COMPARED
    passages = []
    for units in texts:
        first, last = _densest(units, words.weights)
        some = units[:left] if similarities and not any(words.telling(unit.found) for unit in units) else []
        if similarities and len(some) > 1:
            left -= len(some)
            near = similarities([unit.text for unit in some])
            first = last = max(range(len(some)), key=lambda number: near[number])
        passages.append(_passage(units[slice(*_widened(units, first, last))], words))
    return passages


@dataclass(frozen=True, slots=True)
class _Words:
    """The words of a query, folded."""

    forms: Mapping[str, float]
    """What each counts by its form."""
    weights: Mapping[str, float]
    """The same times its rarity in the texts that were found."""

    def telling(self, words: Iterable[str]) -> list[str]:
        """Return those of some words that tell where the answer is."""
        return [word for word in words if self.forms[word] >= _TELLING]


def _read_units(hit: Hit, forms: Mapping[str, float]) -> list[_Unit]:
    blocks = list(plain_blocks(hit.text))
    if len(blocks) > 1 and blocks[0].kind == "heading":
        del blocks[0]  # the heading path says it
    return [
        _Unit(text, before, is_cut, _found(text, forms)) for block in blocks for text, before, is_cut in _pieces(block)
    ] or [_Unit(hit.text.strip(), "", (False, False), {})]


def _pieces(block: TextBlock) -> Iterator[tuple[str, str, tuple[bool, bool]]]:
    """Yield the units of a block: their text, what stands before, and whether they are cut."""
    if block.kind == "code":
        for line in block.text.split("\n"):
            yield line.rstrip(), "\n", (False, False)
        return
    before = "\n"
    for sentence in _sentences(" ".join(block.text.split())):
        pieces = list(_cut(sentence))
        for number, piece in enumerate(pieces):
            yield piece.strip(), before, (number > 0, number < len(pieces) - 1)
            before = " " if piece[-1:].isspace() else ""
        before = " " if sentence[-1:].isspace() else ""


def _sentences(text: str) -> Iterator[str]:
    start = 0
    for stop in [*(found.end() for found in _SENTENCE.finditer(text)), len(text)]:
        if stop > start:
            yield text[start:stop]
        start = stop


def _cut(sentence: str) -> Iterator[str]:
    """Yield a sentence in pieces of much the same length, cut after white space where there is some."""
    while len(sentence) > _MAX_UNIT_CHARS:
        target = len(sentence) // -(-len(sentence) // _MAX_UNIT_CHARS)
        stop = sentence.rfind(" ", target // 2, target + 1) + 1 or target
        yield sentence[:stop]
        sentence = sentence[stop:]
    yield sentence


def _found(text: str, forms: Mapping[str, float]) -> dict[str, float]:
    return find_query_words(forms, {word.folded for word in read_words(text)})


def _weights(forms: Mapping[str, float], units: Sequence[_Unit]) -> dict[str, float]:
    count = {word: sum(word in unit.found for unit in units) for word in forms}
    return {word: form * log((len(units) + 1) / (count[word] + 0.5)) for word, form in forms.items()}


def _densest(units: Sequence[_Unit], weights: Mapping[str, float]) -> tuple[int, int]:
    """Return first and last unit of the shortest window with the most of the query."""
    best, chosen = (-1.0, 0), (0, 0)
    for first in range(len(units)):
        chars, covered = 0, dict.fromkeys(weights, 0.0)
        for last in range(first, len(units)):
            chars += len(units[last].before) + len(units[last].text)
            if chars > MAX_CHARS and last > first:
                break
            for word, quality in units[last].found.items():
                covered[word] = max(covered[word], quality)
            score = sum(weights[word] * quality for word, quality in covered.items()), -chars
            if score > best:
                best, chosen = score, (first, last)
    return chosen


def _widened(units: Sequence[_Unit], first: int, last: int) -> tuple[int, int]:
    """Return where a passage starts and stops that has room for more: what comes after first, then what before."""
    room = MAX_CHARS - sum(len(unit.before) + len(unit.text) for unit in units[first : last + 1])
    while last + 1 < len(units) and (size := len(units[last + 1].before) + len(units[last + 1].text)) <= room:
        last, room = last + 1, room - size
    while first > 0 and (size := len(units[first - 1].before) + len(units[first - 1].text)) <= room:
        first, room = first - 1, room - size
    return first, last + 1


def _passage(units: Sequence[_Unit], words: _Words) -> Passage:
    text = units[0].text + "".join(unit.before + unit.text for unit in units[1:])
    text = f"{_CUT} {text}" if units[0].is_cut[0] else text
    text = f"{text} {_CUT}" if units[-1].is_cut[1] else text
    present = list(dict.fromkeys(word for unit in units for word in unit.found))
    least = _MARKED * max((words.weights[word] for word in present), default=0.0)
    # Of a query of nothing but short words, such as "to be", these are marked.
    wanted = words.telling(present) if words.telling(words.forms) else present
    marked = [word for word in wanted if words.weights[word] >= least]
    found = (word for word in read_words(text) if any(match_quality(asked, word.folded) for asked in marked))
    return Passage(text, tuple(joined_spans(found)))
