"""Finds the words of a query in a text, in any script: as they are, inflected, or inside a compound.

The full-text index compares whole words (ICU word boundaries, case and accents folded). Here a reader is shown where
the words stand, so other forms of a word count as well, for less. Scripts that are written without spaces are compared
by groups of characters, since their words cannot be told without a dictionary.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Myanmar, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""Of Unicode: the scripts that put no spaces between words."""
_HANGUL = re.compile("[\uac00-\ud7a3]")
_KANA_ONLY = re.compile("[\u3040-\u309f]+")
_SYLLABLES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0640]")
"""Marks that a writer may leave out: accents, Hebrew points, Arabic vowels and the stretching of Arabic letters."""
_LETTERS = str.maketrans({"ı": "i", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ς": "σ"})
_INFLECTED, _COMPOUND = 0.7, 0.5
"""What another form of a word counts, and what a word inside another; the word itself counts 1."""
_MIN_COMPOUND = 5
"""Letters of a word that is looked for inside others."""
_SHORT_WORDS = (0.0, 0.1, 0.3, 0.6)
"""What a word of so many letters counts: most of them are articles, prepositions and pronouns."""
_MAX_WORDS = 100
"""Words of a query that are looked for; a pasted page has more."""
_KANA_GROUP = 0.1
"""The same of a group of Hiragana: mostly endings and particles."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text, folded, and where it stands."""

    folded: str
    start: int
    end: int


def read_words(text: str) -> Iterator[Word]:
    """Yield the words of a text in order; of a script without spaces, every group of two or three characters."""
    for found in _word_pattern().finditer(text):
        if found.lastgroup == "unspaced":
            yield from _groups(found.group(), found.start())
        elif folded := fold(found.group()):
            yield Word(folded, found.start(), found.end())


@lru_cache(maxsize=50_000)
def fold(word: str) -> str:
    """Return a word without its case and accents, the dotless i of Turkish as an i."""
    decomposed = unicodedata.normalize("NFKD", word).casefold().translate(_LETTERS)
    return unicodedata.normalize("NFC", _ACCENTS.sub("", decomposed))


def weigh_query(query: str) -> dict[str, float]:
    """Return the words of a query, folded, each with what it counts by its form: short ones count less."""
    asked = {word.folded: query[word.start : word.end] for word in read_words(query)}
    return {folded: _weight(written, folded) for folded, written in islice(asked.items(), _MAX_WORDS)}


def match_quality(asked: str, word: str) -> float:
    """Return how well a word of a text answers a word of the query, both folded: from 0 to 1."""
    if asked == word:
        return 1.0
    if _is_unspaced(asked) or _is_unspaced(word):
        return 0.0
    shorter, longer = sorted((asked, word), key=len)
    shared = _shared_beginning(asked, word)
    if _HANGUL.match(shorter):
        return _INFLECTED if shared == len(shorter) >= 2 else 0.0
    if shared == len(shorter) >= 3 and len(longer) - shared <= 2:
        return _INFLECTED
    if shared >= _MIN_COMPOUND and shared >= 0.6 * len(longer):
        return _INFLECTED
    return _COMPOUND if len(shorter) >= _MIN_COMPOUND and shorter in longer else 0.0


def find_query_words(forms: Iterable[str], words: Collection[str]) -> dict[str, float]:
    """Return those words of a query that a text answers, each with how well its best word does.

    Args:
        forms: the words of the query, folded.
        words: the distinct words of the text, folded.
    """
    found = {}
    for asked in forms:
        if asked in words:
            found[asked] = 1.0
            continue
        # A match begins alike or holds the other word: comparing every pair in full takes ten times as long.
        near = (word for word in words if word[:2] == asked[:2] or asked in word or word in asked)
        if quality := max((match_quality(asked, word) for word in near), default=0.0):
            found[asked] = quality
    return found


def joined_spans(words: Iterable[Word]) -> list[tuple[int, int]]:
    """Return where words stand, in order; those that overlap or touch, as groups of characters do, are one."""
    spans: list[tuple[int, int]] = []
    for word in sorted(words, key=lambda each: each.start):
        if spans and word.start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], word.end))
        else:
            spans.append((word.start, word.end))
    return spans


def _groups(run: str, offset: int) -> Iterator[Word]:
    size = min(3 if _SYLLABLES.match(run) else 2, len(run))
    for start in range(len(run) - size + 1):
        group = unicodedata.normalize("NFKC", run[start : start + size])
        yield Word(group, offset + start, offset + start + size)


def _weight(written: str, folded: str) -> float:
    if _KANA_ONLY.fullmatch(folded):
        return _KANA_GROUP
    is_name = any(c.isdigit() for c in written) or (len(written) > 1 and written.isupper())
    if is_name or _is_unspaced(folded) or _HANGUL.match(folded) or len(folded) >= len(_SHORT_WORDS):
        return 1.0
    return _SHORT_WORDS[len(folded)]


def _is_unspaced(word: str) -> bool:
    return _unspaced_pattern().match(word) is not None


def _shared_beginning(one: str, other: str) -> int:
    for position, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return position
    return min(len(one), len(other))


@cache
def _unspaced_pattern() -> re.Pattern[str]:
    return re.compile(f"[{_UNSPACED}]")


@cache
def _word_pattern() -> re.Pattern[str]:
    # `\w` leaves out the vowel signs of Indic scripts, which would cut words into pieces.
    signs = "".join(chr(c) for c in range(0x300, 0x10000) if unicodedata.category(chr(c)) in ("Mn", "Mc"))
    return re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|(?P<spaced>(?:[^\W{_UNSPACED}]|[{signs}])+)")
