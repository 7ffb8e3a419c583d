"""Verifies that what an answer cites stands, word for word, in the passage that it names.

A quote stands in a passage if its words are there one after the other: compared after Unicode's NFKC, white space
folded, without soft hyphens and zero-width spaces, which nobody sees. It must begin and end with whole words and whole
numbers. What is then cited is the stored text itself, never what the model wrote.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from kb_pipeline.model import Record

FindingKind = Literal[
    "fabricated", "stitched", "misattributed", "number_out_of_range", "quote_too_short", "no_citation",
    "cited_refusal", "cut_off", "too_long",
]  # fmt: skip
"""What can be wrong with an answer of a model:

- `fabricated`: no passage has the quote's words.
- `stitched`: the words are in the passage, but not one after the other.
- `misattributed`: the quote stands in another passage than the one that is named.
- `number_out_of_range`: there is no passage of that number.
- `quote_too_short`: it is empty, or so short that it proves nothing.
- `no_citation`: a sentence cites nothing.
- `cited_refusal`: the model cites passages while it says that it does not know.
- `cut_off`, `too_long`: the answer ended before it was complete, or did not end.
"""

_INVISIBLE = frozenset("\u00ad\u200b\u2060\ufeff")
"""Soft hyphen, zero-width space, word joiner, byte order mark. Joiners (ZWJ, ZWNJ) spell words in some scripts."""
_MIN_SIGNS, _MIN_UNSPACED_SIGNS = 8, 4
"""Letters and digits of a quote that prove something; fewer in scripts where a sign is a syllable or a word."""
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3]")
_WORD = re.compile(r"\d+(?:[.,]\d+)*|\w+")
_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"'})
"""Models straighten quotation marks, and curl straight ones."""


@dataclass(frozen=True, slots=True)
class Finding(Record):
    """One thing that is wrong with an answer."""

    kind: FindingKind
    sentence: int | None = None
    """The place of the sentence among those that the model wrote, from 0; None of the answer as a whole."""
    number: int | None = None
    """Of the passage that was cited."""
    quote: str | None = None


@dataclass(frozen=True, slots=True)
class Located:
    """Where a quote stands in a passage, as stored."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Folded:
    text: str
    starts: tuple[int, ...]
    """For each character, the offset of what it was folded from."""
    ends: tuple[int, ...]


def check_quote(quote: str, number: int, passages: Sequence[str]) -> Located | FindingKind:
    """Return where a quote stands in the passage of that number (from 1), or what is wrong with it."""
    if not 1 <= number <= len(passages):
        return "number_out_of_range"
    wanted = _fold(quote.strip()).text
    if _is_too_short(wanted):
        return "quote_too_short"
    if (place := locate_quote(quote, passages[number - 1])) is not None:
        return place
    if any(locate_quote(quote, text) is not None for n, text in enumerate(passages, start=1) if n != number):
        return "misattributed"
    return "stitched" if _has_all_words(wanted, _fold(passages[number - 1]).text) else "fabricated"


def locate_quote(quote: str, passage: str) -> Located | None:
    """Return where a quote stands in a passage, as a whole and in whole words; None if it does not."""
    wanted, there = _fold(quote.strip()).text, _fold(passage)
    if not wanted:
        return None
    at = there.text.find(wanted)
    while at >= 0:
        stop = at + len(wanted)
        if not _splits(there.text, at) and not _splits(there.text, stop):
            return Located(there.starts[at], there.ends[stop - 1])
        at = there.text.find(wanted, at + 1)
    return None


@lru_cache(maxsize=128)
def _fold(text: str) -> _Folded:
    """Fold a text, and keep where each of its characters comes from."""
    letters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in _clusters(text):
        for letter in unicodedata.normalize("NFKC", text[start:end]).translate(_QUOTES):
            if letter in _INVISIBLE:
                continue
            if letter.isspace():
                if not letters or letters[-1] == " ":
                    continue
                letter = " "
            letters.append(letter)
            starts.append(start)
            ends.append(end)
    while letters and letters[-1] == " ":
        del letters[-1], starts[-1], ends[-1]
    return _Folded("".join(letters), tuple(starts), tuple(ends))


def _clusters(text: str) -> list[tuple[int, int]]:
    """Return the stretches of a text that are normalized independently of what is around them.

    A character that composes with the one before it (an accent, a vowel of a Hangul syllable) stays with it, and so
    does what stands behind a character that nobody sees: it may hide between a letter and its accent.
    """
    clusters: list[tuple[int, int]] = []
    for at, letter in enumerate(text):
        if clusters and (unicodedata.combining(letter) or _composes(text[clusters[-1][0] : at], letter)):
            clusters[-1] = (clusters[-1][0], at + 1)
        else:
            clusters.append((at, at + 1))
    return clusters


def _composes(before: str, letter: str) -> bool:
    if letter.isascii() or len(before) > 30:
        return False
    return unicodedata.normalize("NFKC", before[-4:] + letter) != unicodedata.normalize(
        "NFKC", before[-4:]
    ) + unicodedata.normalize("NFKC", letter)


def _splits(text: str, at: int) -> bool:
    """Return whether a word or a number goes on across a place in a text."""
    if at <= 0 or at >= len(text):
        return False
    before, after = text[at - 1], text[at]
    if _UNSPACED.match(before) or _UNSPACED.match(after):
        return False
    if unicodedata.combining(after) or (before.isalnum() and after.isalnum()):
        return True
    if before in ".," and after.isdigit():
        return at >= 2 and text[at - 2].isdigit()
    return after in ".," and before.isdigit() and text[at + 1 : at + 2].isdigit()


def _is_too_short(folded: str) -> bool:
    signs = [letter for letter in folded if letter.isalnum()]
    least = _MIN_UNSPACED_SIGNS if any(_UNSPACED.match(letter) for letter in signs) else _MIN_SIGNS
    return len(signs) < least


def _has_all_words(quote: str, passage: str) -> bool:
    words = _WORD.findall(quote.casefold())
    if any(_UNSPACED.match(word) for word in words):
        signs = set(passage.casefold())
        return all(sign in signs for word in words for sign in word)
    there = set(_WORD.findall(passage.casefold()))
    return bool(words) and all(word in there for word in words)
