"""Reduces a document to hashes of its segments, by which two documents can be compared without reading their texts.

A segment is what stands in one line of the Markdown before, in or between links. Of a segment two hashes are kept: of
its words, and of its words without those of the document's own address: `Results for pears` at `/find?q=pears` is what
`Results for plums` is at `/find?q=plums`. Numbers are words: a price is content.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from kb_pipeline.clean.address import MASK, Address, without_address, words_of
from kb_pipeline.link_text import split_at_links
from kb_pipeline.urls import canonical_url

TEXT, LINK, HEADING = 0, 1, 2
_TYPES = (("text", "<u8"), ("masked", "<u8"), ("target", "<u8"), ("words", "<u2"), ("content", "<u2"), ("kind", "u1"))
_MOST = 4_000
"""Segments that are kept of one document: of longer ones nothing is said to have nothing of its own."""
_MOST_WORDS = 60_000
PAGE_NUMBER = re.compile(
    r"\b(?:page|seite|p[áa]gina|pagina|strona|side|sida|sivu|sayfa|стр\w*|сторінка|oldal|str[áa]nka|trang|halaman)\W{0,3}"
    r"\d+(?:\W{1,3}(?:of|von|de|sur|di|van|z|из|af|av|/)\W{1,3}\d+)?|第\s*\d+\s*[页頁]|\d+\s*ページ",
    re.IGNORECASE,
)
_VALUE = re.compile(r"\d+[.,]\d{1,2}|\d+")
_MEASURE = re.compile(r"[€$£¥₽₹₩%]|\b(?:eur|usd|gbp|chf|jpy|cny|rub|inr|brl|pln|sek|nok|dkk|czk|huf)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Segments:
    """The segments of one document, in its order; the first is its title. Arrays of one length, a segment each."""

    text: NDArray[np.uint64]
    masked: NDArray[np.uint64]
    target: NDArray[np.uint64]
    """Hash of the address that a link leads to; 0 for text."""
    words: NDArray[np.uint16]
    content: NDArray[np.uint16]
    """Of these, those that say something in a listing: no counts and dates, but prices and measures."""
    kind: NDArray[np.uint8]
    unlinked: NDArray[np.uint32]
    """Distinct content words outside links, as hashes, odd for values; empty where most of the content is text."""
    is_cut: bool
    """Whether the document has more segments than are kept."""

    def to_bytes(self) -> bytes:
        """Return what `from_bytes` reads."""
        header = np.array([len(self.text), self.is_cut], dtype="<u4").tobytes()
        columns = [getattr(self, name).astype(kind).tobytes() for name, kind in _TYPES]
        return zlib.compress(b"".join([header, *columns, self.unlinked.astype("<u4").tobytes()]), 1)

    @classmethod
    def from_bytes(cls, stored: bytes) -> Segments:
        """Read what `to_bytes` wrote."""
        raw = zlib.decompress(stored)
        count, is_cut = np.frombuffer(raw, "<u4", 2).tolist()
        columns, position = {}, 8
        for name, kind in _TYPES:
            columns[name] = np.frombuffer(raw, kind, count, position)
            position += columns[name].nbytes
        return cls(**columns, unlinked=np.frombuffer(raw, "<u4", -1, position), is_cut=bool(is_cut))


def segments_of(address: Address, title: str, markdown: str) -> Segments:
    """Return the segments of a document."""
    rows, unlinked, linked, words = [], list[int](), 0, 0
    pieces = _pieces(title, markdown)
    for text, target, kind in pieces:
        found = words_of(PAGE_NUMBER.sub(" ", text) if kind == HEADING else text)
        if not found and not target:
            continue
        content = [] if target else list(_content_words(text))
        unlinked += content if kind == TEXT else []
        words, linked = words + len(found), linked + (len(found) if target else 0)
        hashes = _hash(found), _hash(masked_words(found, address)), address_hash(target) if target else 0
        rows.append((*hashes, min(len(found), _MOST), min(len(found if target else content), _MOST), kind))
        if len(rows) == _MOST or words > _MOST_WORDS:
            break
    is_cut = next(pieces, None) is not None
    columns = list(zip(*rows, strict=True)) or [()] * len(_TYPES)
    arrays = {name: np.array(column, dtype=kind) for (name, kind), column in zip(_TYPES, columns, strict=True)}
    kept = sorted(set(unlinked)) if linked >= len(unlinked) else []
    return Segments(**arrays, unlinked=np.array(kept, dtype="<u4"), is_cut=is_cut)


def template_hash(key: str, address: Address, title: str, text: str) -> int:
    """Return a signed 64-bit hash of title and text without the words of the address."""
    quoted = without_address(key, text).split(MASK)
    words = [word for part in quoted for word in (MASK, *words_of(part))][1:_MOST_WORDS]
    words = [*masked_words(words_of(title), address), "", *masked_words(words, address)]
    return int(np.uint64(_hash(words)).astype(np.int64))


def masked_words(words: Sequence[str], address: Address) -> list[str]:
    """Return the words with one mark for every run of words of the address.

    A short word, such as `a`, counts as one of the address only beside another one.
    """
    out: list[str] = []
    position = 0
    while position < len(words):
        end = position
        while end < len(words) and (words[end] == MASK or words[end] in address.words):
            end += 1
        if end - position > 1 or (end > position and is_telling(words[position])):
            if not out or out[-1] != MASK:
                out.append(MASK)
        else:
            end = max(end, position + 1)
            out.extend(words[position:end])
        position = end
    return out


def is_telling(word: str) -> bool:
    """Return whether a word of an address is found by itself in a text because it is quoted, not by chance."""
    return word == MASK or len(word) > 2 or word.isdigit()


@lru_cache(maxsize=65_536)
def address_hash(url: str) -> int:
    """Return the hash by which a link's target is compared with the keys of documents."""
    return _hash([canonical_url(url) or url])


ONLY_ADDRESS = int.from_bytes(blake2b(MASK.encode(), digest_size=8).digest(), "little")
"""The masked hash of a segment that only repeats its document's address."""


def _pieces(title: str, markdown: str) -> Iterator[tuple[str, str | None, int]]:
    """Yield every piece of text with where it leads, if it is a link, and its kind."""
    yield title, None, HEADING
    for line in markdown.splitlines():
        is_heading = line.startswith("#")
        for text, target in split_at_links(line):
            yield text, target, LINK if target else HEADING if is_heading else TEXT


def _content_words(text: str) -> Iterator[int]:
    """Yield hashes of the words that say something in a listing: no counts and dates, but prices and measures."""
    has_measure = _MEASURE.search(text) is not None
    yield from (_hash([word]) & 0xFFFFFFFE for word in words_of(text) if not word.isdigit())
    values = (value for value in _VALUE.findall(text) if has_measure or not value.isdigit())
    yield from (_hash([value]) & 0xFFFFFFFE | 1 for value in values)


def _hash(words: Sequence[str]) -> int:
    return int.from_bytes(blake2b(" ".join(words).encode("utf-8", "replace"), digest_size=8).digest(), "little")
