"""Judges what a page says that no other page of its host has said: text, numbers, or a copy of what another part has.

A page is read line by line, where each text node is a line. Words of the page's own address and of those that it links
to count as one word, and so do numbers where only the wording matters: the date in a calendar or the address on an
error page is not new. Numbers are news of their own (a price list) in lines that are no template, that is where pages
of one pattern only have the line's wording.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from kb_pipeline.store.durable_files import write_durably
from kb_pipeline.urls import netloc_of, path_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    Keys = NDArray[np.uint64]
    Mask = NDArray[np.bool_]

_TOKEN = re.compile(r"[^\W_]+|\n")
_FRACTION = re.compile(r"(?<![\d.,])(\d+)[.,](\d\d?)(?![\d.,])")
_MAX_CHARS = 2_000_000
"""How much text of one page is read."""
_PHRASE, _NEW_PHRASES, _SOME_PHRASES = 3, 8, 5
"""Phrases of three words: with so many unseen ones a page is new, with fewer it says something. A template around the
words of another page, as in `Reply to TITLE`, has two to four."""
_CLAUSE, _NEW_CLAUSES = 7, 32
"""Clauses of seven words tell texts apart whose words are so few that all phrases have been seen."""
_SENTENCE_WORDS, _SENTENCE_SHARE = 7, 0.8
"""A line of so many words, with such a share of unseen clauses, is a sentence of its own."""
_CAPTION_WORDS = 2
"""A shorter line, all of whose phrases are unseen, is one too: the caption of a picture."""
_LONG_LINE, _SECOND_WORDS, _OCCURRENCES = 6, 16, 3
"""So many words, in lines of so many each that so few pages have: a chapter of what was read as one long page before.
However many pages repeat a text, each line lets few of them count."""
_SOME_NUMBERS = 2
"""How many unseen numbers are something; one is, if it has a fraction: a price."""
_ROW, _SOME_ROWS = 3, 3
"""Rows of three numbers tell tables apart whose numbers have all been seen; so many unseen ones are something."""
_FEW = 50
"""Numbers of a page of which it is asked whether the address implies them: `items 321 to 340 of 990` has three."""
_NUMBERS_PER_LINK = 2
"""A page with parameters and fewer numbers for each link is a selection of a list, whose rows come in any order."""
_PAGE_STEP = 100
"""Numbers that exceed the one in a page's address by so much follow from it, as in "items 321 to 340" at start=320."""
_BITS_LOG2 = 27
_MAX_FILL = 0.25
"""The filter is cleared when a larger share is set, since too much would seem to have been seen before."""
_GOLDEN, _SILVER = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F
"""Odd numbers that spread the bits of a hash when multiplied with it: 2**64 by the golden ratio; a prime of xxHash."""
_BLANK, _BREAK = 0, 2
"""The words that stand for a number or an address, and for the end of a line."""
_NAMES = (
    "january february march april may june july august september october november december jan feb mar apr jun jul "
    "aug sep sept oct nov dec monday tuesday wednesday thursday friday saturday sunday mon tue wed thu fri sat sun "
    "januar februar märz mai juni juli oktober dezember montag dienstag mittwoch donnerstag freitag samstag sonntag "
    "janvier février mars avril juin juillet août septembre octobre novembre décembre lundi mardi mercredi jeudi "
    "vendredi samedi dimanche enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre "
    "diciembre lunes martes miércoles jueves viernes sábado domingo gennaio febbraio aprile maggio giugno luglio "
    "settembre ottobre dicembre januari februari maart mei augustus janeiro fevereiro março maio junho julho "
    "setembro outubro novembro dezembro"
)
_DATE_WORDS = frozenset(_NAMES.split())
"""Names of months and days, which count as numbers."""


class News(StrEnum):
    """What a page says beyond what its host has said before."""

    NEW = "new"
    """Text of its own."""
    SOME = "some"
    """A few words or numbers of its own."""
    SENTENCE = "sentence"
    """A sentence of its own, of words and phrases that others have."""
    COPY = "copy"
    """All that another page says, and nothing else."""
    NONE = "none"
    """Parts of what other pages say, in any order."""


_IS_NEWS = frozenset((News.NEW, News.SOME, News.SENTENCE))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one page turned out to say."""

    news: News
    signatures: tuple[int, ...]
    """Two hashes of the set of its lines, without and with the words of addresses; a copy shares one of them."""

    @property
    def is_news(self) -> bool:
        """Whether it says anything of its own."""
        return self.news in _IS_NEWS

    @property
    def earns(self) -> bool:
        """Whether it says so much that URLs like its own may be expected to say something too."""
        return self.news in (News.NEW, News.SOME)


class NoveltyFilter:
    """What has been seen on all hosts, as one Bloom filter of 16 MiB at most, kept on disk between crawls."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._set_bits, self._is_changed = 0, False

    def judge(self, url: str, pattern: str, text: str, links: tuple[str, ...]) -> Judgement:
        """Add a page to what has been seen and return what it said that was not.

        Args:
            url: the canonical URL.
            pattern: what its URL has in common with others; see url_patterns.
            text: its visible text, a line for each text node.
            links: the canonical URLs that it leads to.
        """
        page = _Page(url, text, links)
        host, address = _hash(netloc_of(url)), self._keys(f"address {url}")
        if not page.lines.size:
            return Judgement(News.NONE, ())
        was_news = not self._unseen(address)[0]
        # Another view of a page that was read is no chapter of it.
        is_view = "?" in url and not self._unseen(self._keys(f"address {url.partition('?')[0]}"))[0]
        news = self._news(page, host, _hash(f"{host} {pattern}"))
        is_rare = self._count_rare_words(page, host) >= _SECOND_WORDS
        is_copy = not self._are_first(f"copy {host}", page.signatures)
        if news is News.NONE:
            is_some = was_news or (is_rare and not is_view)
            news = News.SOME if is_some else News.COPY if is_copy else News.NONE
        if news in _IS_NEWS:
            self._add(address)
        return Judgement(news, page.signatures)

    def is_first(self, place: str, judgement: Judgement) -> bool:
        """Return whether a page has had no copy at a place so far; from then on it has one."""
        return self._are_first(f"place {place}", judgement.signatures)

    def _are_first(self, place: str, signatures: tuple[int, ...]) -> bool:
        import numpy as np

        keys = np.array([_hash(f"{place} {signature}") for signature in signatures], np.uint64)
        are_first = bool(self._unseen(keys).all())
        self._add(keys)
        return are_first

    def save(self) -> None:
        """Write the filter to disk for the next crawl, if anything was added."""
        if self._path is not None and self._is_changed:
            write_durably(self._path, self._set_bits.to_bytes(8, "big") + zlib.compress(self._bits.data, 1))
            self._is_changed = False

    def _news(self, page: _Page, host: int, place: int) -> News:
        lines, plain = self._salted(page.wordings, host), self._salted(page.plain, host)
        is_unseen, is_unseen_here = self._unseen(lines), self._unseen(self._salted(page.wordings, place))
        shared = self._salted(page.wordings, host + 1)
        is_template = (~is_unseen & is_unseen_here) | ~self._unseen(shared)
        # A line of the menu in which the address blanks a word is no new one.
        is_new_line = is_unseen[page.wording_of] & self._unseen(plain)
        self._add(lines)
        self._add(plain)
        self._add(self._salted(page.wordings, place))
        self._add(shared[is_template])
        words = self._take_unseen(self._salted(page.words(is_new_line), host + 2))
        numbers = self._unseen_numbers(page, is_template, place)
        rows = self._take_unseen(self._salted(page.rows_of_numbers(is_template), place + 2))
        groups = page.shingles(is_new_line, _PHRASE)
        keys = self._salted(groups.hashes, host + 3)
        has_caption = groups.has_line(self._unseen(keys), _CAPTION_WORDS, 1)
        phrases = self._take_unseen(keys)
        clauses = page.shingles(is_new_line, _CLAUSE)
        keys = self._salted(clauses.hashes, host + 4)
        has_sentence = clauses.has_line(self._unseen(keys), _SENTENCE_WORDS, _SENTENCE_SHARE)
        if phrases >= _NEW_PHRASES or self._take_unseen(keys) >= _NEW_CLAUSES:
            return News.NEW
        if words or phrases >= _SOME_PHRASES or numbers >= _SOME_NUMBERS or rows >= _SOME_ROWS:
            return News.SOME
        return News.SENTENCE if has_sentence or has_caption else News.NONE

    def _count_rare_words(self, page: _Page, host: int) -> int:
        """Count the words in long lines that few pages had before; count these lines as seen once more."""
        import numpy as np

        words = np.bincount(page.wording_of[page.word_lines], minlength=len(page.wordings))
        is_left = words >= _LONG_LINE
        rare = np.zeros(len(words), np.bool_)
        for occurrence in range(_OCCURRENCES):
            keys = self._salted(page.wordings, host + 5 + occurrence)
            is_new = is_left & self._unseen(keys)
            self._add(keys[is_new])
            is_left &= ~is_new
            rare |= is_new
        return int(words[rare].sum())

    def _unseen_numbers(self, page: _Page, is_template: Mask, place: int) -> int:
        """Return how many numbers are new among pages of one pattern, apart from those that the address implies.

        A number with a fraction counts for as many as are something.
        """
        keys = self._salted(page.numbers, place + 1)
        is_unseen = self._unseen(keys)
        self._add(keys)
        candidates = (is_unseen & ~is_template[page.wording_of[page.number_lines]]).nonzero()[0]
        found = {int(keys[i]): i for i in candidates if not page.implies(int(page.number_starts[i]))}
        return len(found) + any(page.has_fraction(int(page.number_starts[i])) for i in found.values())

    # -- the bits

    @staticmethod
    def _keys(text: str) -> Keys:
        import numpy as np

        return np.array([_hash(text)], np.uint64)

    @staticmethod
    def _salted(keys: Keys, salt: int) -> Keys:
        import numpy as np

        return (keys ^ np.uint64(salt & _ALL)) * np.uint64(_SILVER)

    @cached_property
    def _bits(self) -> NDArray[np.uint8]:
        import numpy as np

        size = 1 << (_BITS_LOG2 - 3)
        try:
            stored = self._path.read_bytes() if self._path is not None else b""
            bits = bytearray(zlib.decompress(stored[8:]))
        except (OSError, zlib.error):
            return np.zeros(size, np.uint8)  # the first crawl, or a torn file
        if len(bits) != size:
            return np.zeros(size, np.uint8)
        self._set_bits = int.from_bytes(stored[:8], "big")
        return np.frombuffer(bits, np.uint8)

    def _slots(self, keys: Keys) -> Iterator[Keys]:
        """Yield three bits for each key; a key counts as seen when all of them are set."""
        import numpy as np

        for turn in (0, 21, 42):
            turned = (keys << np.uint64(turn)) | (keys >> np.uint64(64 - turn)) if turn else keys
            yield (turned * np.uint64(_GOLDEN)) >> np.uint64(64 - _BITS_LOG2)

    def _unseen(self, keys: Keys) -> Mask:
        import numpy as np

        is_seen = np.ones(len(keys), np.bool_)
        for slots in self._slots(keys):
            is_seen &= (self._bits[slots >> np.uint64(3)] >> (slots & np.uint64(7)).astype(np.uint8)) & 1 == 1
        return ~is_seen

    def _add(self, keys: Keys) -> None:
        import numpy as np

        if not len(keys):
            return
        for slots in self._slots(keys):
            bit = np.left_shift(np.uint8(1), (slots & np.uint64(7)).astype(np.uint8))
            np.bitwise_or.at(self._bits, (slots >> np.uint64(3)).astype(np.int64), bit)
        self._is_changed = True

    def _take_unseen(self, keys: Keys) -> int:
        import numpy as np

        unseen = np.unique(keys[self._unseen(keys)])
        self._add(unseen)
        self._set_bits += 4 * len(unseen)  # three each, and one for what else is noted of a page
        if self._set_bits > _MAX_FILL * (1 << _BITS_LOG2):
            self._bits.fill(0)
            self._set_bits = 0
        return len(unseen)


class _Page:
    """The words of a page as arrays of hashes, by line.

    Attributes:
        lines: the number of each line that has a word.
        wordings: the distinct wordings of its lines, a hash each, where all numbers are one word.
        wording_of: for each line, the index of its wording.
        word_lines: for each word that is no number and no part of an address, the index of its line.
        plain: for each line, its wording with the words of addresses.
        signatures: hashes of the set of its lines, without and with the words of addresses.
        numbers: a hash for each group of adjacent numbers.
        number_lines: for each of these, the index of its line.
        number_starts: for each of these, the index of its first token.
    """

    def __init__(self, url: str, text: str, links: tuple[str, ...]) -> None:
        import numpy as np

        self._has_parameters, self._links = "?" in url, len(links)
        self._own_numbers = [int(token) for token in _url_tokens(url) if token.isdecimal() and len(token) < 16]
        self._tokens = _TOKEN.findall(text[:_MAX_CHARS].casefold())
        self._fractions = set(_FRACTION.findall(text[:_MAX_CHARS]))
        hashes = _hashes(self._tokens)
        is_break = hashes == _BREAK
        self._places = np.flatnonzero(~is_break)
        self._line_of = np.cumsum(is_break)[~is_break]
        plain = hashes[~is_break]
        words = plain.copy()
        words[np.isin(words, _hashes(_url_tokens(url, *links)))] = _BLANK
        self.lines, self._line_of = np.unique(self._line_of, return_inverse=True)
        if self.lines.size:
            self._read(words, _line_hashes(plain, self._line_of))
            self.plain = _line_hashes(np.where(plain & np.uint64(1) == 1, np.uint64(_BLANK), plain), self._line_of)

    def _read(self, words: Keys, plain: Keys) -> None:
        import numpy as np

        is_number = words & np.uint64(1) == 1
        exact = _line_hashes(words, self._line_of)
        masked = np.where(is_number, np.uint64(_BLANK), words)
        follows = np.zeros(len(words), np.bool_)
        follows[1:] = self._line_of[1:] == self._line_of[:-1]
        is_repeated = masked == _BLANK
        is_repeated[1:] &= follows[1:] & (masked[:-1] == _BLANK)
        is_repeated[:1] = False
        self._masked, self._masked_lines = masked[~is_repeated], self._line_of[~is_repeated]
        self.word_lines = self._masked_lines[self._masked != _BLANK]
        wordings = _line_hashes(self._masked, self._masked_lines)
        # A line of numbers alone, a cell of a table say, has the wording of the line before it as its label.
        has_words = np.zeros(len(self.lines), np.bool_)
        has_words[self.word_lines] = True
        label = np.concatenate([np.zeros(1, np.uint64), wordings[:-1]])
        wordings = np.where(has_words, wordings, label * np.uint64(_GOLDEN) + np.uint64(1))
        self.wordings, self.wording_of = np.unique(wordings, return_inverse=True)
        self.signatures = tuple(int(np.unique(lines * np.uint64(_SILVER)).sum()) for lines in (exact, plain))
        self._group_numbers(words, is_number, follows)

    def _group_numbers(self, words: Keys, is_number: Mask, follows: Mask) -> None:
        import numpy as np

        is_start = is_number.copy()
        is_start[1:] &= ~(is_number[:-1] & follows[1:])
        group = np.cumsum(is_start)[is_number] - 1
        self.numbers = _line_hashes(words[is_number], group) if is_number.any() else words[:0]
        self.number_lines = self._line_of[is_start]
        self.number_starts = self._places[is_start]

    def rows_of_numbers(self, is_template: Mask) -> Keys:
        """Return a hash for every three numbers in a row, or at either end, in lines that are no template.

        None for a page that may be a selection of a list: its rows are new in every order.
        """
        import numpy as np

        is_own = ~is_template[self.wording_of[self.number_lines]]
        if self._has_parameters and len(is_own) <= _FEW:
            is_own &= ~np.array([self.implies(int(start)) for start in self.number_starts], np.bool_)
        numbers: Keys = self.numbers[is_own]
        if len(numbers) < _ROW or (self._has_parameters and len(numbers) < _NUMBERS_PER_LINK * self._links):
            return numbers[:0]
        padded = np.concatenate([[np.uint64(_BREAK)], numbers, [np.uint64(_BREAK)]])
        hashes: Keys = np.zeros(len(numbers), np.uint64)
        for step in range(_ROW):
            hashes = (hashes ^ padded[step : step + len(numbers)]) * np.uint64(_GOLDEN)
            hashes ^= hashes >> np.uint64(31)
        return hashes

    def shingles(self, of_lines: Mask, size: int) -> _Shingles:
        """Return the words around each word of these lines, up to the ends of its line."""
        import numpy as np

        chosen, lines = self._chosen(of_lines)
        side, many = size // 2, len(chosen)
        padded, padded_lines = np.pad(chosen, side), np.pad(lines, side, constant_values=-1)
        hashes, is_whole = np.zeros(many, np.uint64), np.ones(many, np.bool_)
        for step in range(size):
            is_within = padded_lines[step : step + many] == lines
            near = np.where(is_within, padded[step : step + many], np.uint64(_BREAK))
            hashes = (hashes ^ (near + np.uint64(_SILVER))) * np.uint64(_GOLDEN)
            hashes ^= hashes >> np.uint64(31)
            is_whole &= is_within
        return _Shingles(hashes, lines, is_whole)

    def words(self, of_lines: Mask) -> Keys:
        """Return the words of these lines, without numbers and words of addresses."""
        import numpy as np

        chosen, _ = self._chosen(of_lines)
        return np.unique(chosen[chosen != _BLANK])

    def _chosen(self, of_lines: Mask) -> tuple[Keys, NDArray[np.int64]]:
        is_chosen = of_lines[self._masked_lines]
        return self._masked[is_chosen], self._masked_lines[is_chosen]

    def has_fraction(self, token: int) -> bool:
        """Return whether the number that is its nth token has a fraction: a price or a measure, no count or date."""
        return tuple(self._tokens[token : token + 2]) in self._fractions

    def implies(self, token: int) -> bool:
        """Return whether the address of the page implies the number that is its nth token: a row of its listing."""
        if not self._tokens[token].isdecimal() or self.has_fraction(token):
            return False
        number = int(self._tokens[token][:15])
        return any(_follows_from(own, number) for own in self._own_numbers)


def _follows_from(own: int, number: int) -> bool:
    """Return whether a number is near the one of an address, or first or last of a page with that number."""
    if 0 <= number - own <= _PAGE_STEP:
        return True
    return own > 2 and any(n % pages == 0 for n in (number, number - 1) for pages in (own, own - 1))


@dataclass(frozen=True, slots=True)
class _Shingles:
    """For each word of some lines, the group of words that it is the middle of."""

    hashes: Keys
    line_of: NDArray[np.int64]
    is_whole: Mask
    """Whether the group does not reach beyond the ends of its line."""

    def has_line(self, are_unseen: Mask, least: int, share: float) -> bool:
        """Return whether a line of at least so many words has such a share of unseen groups, of the whole ones.

        Groups that reach beyond the ends of their line count where it has no whole one.
        """
        import numpy as np

        if not len(self.line_of):
            return False
        words, whole = np.bincount(self.line_of), np.bincount(self.line_of, self.is_whole)
        counted = self.is_whole | (whole[self.line_of] == 0)
        groups, unseen = np.bincount(self.line_of, counted), np.bincount(self.line_of, counted & are_unseen)
        return bool(((words >= least) & (unseen >= share * groups)).any())


def _line_hashes(words: Keys, line_of: NDArray[np.int64]) -> Keys:
    """Return a hash of the words of each line, in order; every line from 0 on has a word."""
    import numpy as np

    starts = np.flatnonzero(np.append(-1, line_of[:-1]) != line_of)
    position = np.arange(len(words)) - starts[line_of]
    powers = np.cumprod(np.full(int(position.max()) + 1, _GOLDEN, np.uint64))
    hashes: Keys = np.add.reduceat((words + np.uint64(_SILVER)) * powers[position], starts)
    return hashes


_ALL = (1 << 64) - 1


def _hash(text: str) -> int:
    """Return 64 bits that are the same in every process, unlike those of `hash`."""
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")


class _Words(dict[str, int]):
    """Hashes of words; those of numbers are odd, those of words are even."""

    def __missing__(self, word: str) -> int:
        if word == "\n":
            hashed = _BREAK
        else:
            is_number = word in _DATE_WORDS or any(map(str.isdigit, word))
            hashed = _hash(word.lstrip("0") or "0") & (_ALL - 1) | is_number
        if len(self) >= _MAX_WORDS:
            self.clear()
        self[word] = hashed
        return hashed


_MAX_WORDS = 200_000
_WORDS = _Words()


def _hashes(tokens: list[str]) -> Keys:
    import numpy as np

    return np.fromiter(map(_WORDS.__getitem__, tokens), np.uint64, len(tokens))


def _url_tokens(*urls: str) -> list[str]:
    return _TOKEN.findall(unquote(" ".join(map(path_of, urls))).casefold().replace("\n", " "))
