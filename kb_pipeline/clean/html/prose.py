"""Narrows a page to its article: keeps the blocks an extractor chose, and the reference matter between."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kb_pipeline.clean.html.inline import Element
from kb_pipeline.clean.html.regions import drop

_WORD = re.compile(r"\w+")
_SHINGLE = 4
_SAME = 0.6
_LINKED = 0.5
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_REFERENCE = frozenset({"pre", "dl", "table", "code"})
_LEAVES_TEXT = """
    p li dt dd td th pre blockquote h1 h2 h3 h4 h5 h6 figcaption caption summary div section article
    address center aside header footer main figure form details fieldset
"""
_LEAVES = frozenset(_LEAVES_TEXT.split())

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Article:
    """What an extractor chose, as sets that tell in constant time whether a block was in it."""

    words: int
    shingles: frozenset[Words]
    short_blocks: frozenset[Words]

    @classmethod
    def of(cls, blocks: Iterable[str]) -> Article:
        """Index the texts of the chosen blocks."""
        listed = [words_of(block) for block in blocks]
        everything = tuple(word for words in listed for word in words)
        short = frozenset(words for words in listed if 0 < len(words) < _SHINGLE)
        return cls(len(everything), frozenset(_shingles(everything)), short)

    def holds(self, words: Words) -> bool:
        """Whether a block of these words was chosen."""
        if len(words) < _SHINGLE:
            return words in self.short_blocks
        found = [shingle in self.shingles for shingle in _shingles(words)]
        return sum(found) >= _SAME * len(found)


@dataclass(slots=True)
class _Leaf:
    element: Element
    words: Words
    chosen: bool
    linked: bool
    """Mostly links: a teaser, a menu."""


def keep_article(scope: Element, article: Article) -> None:
    """Drop from a tree the blocks outside the article, unless the extractor lost more than it left out."""
    leaves = _leaves(scope, article)
    chosen = sum(len(leaf.words) for leaf in leaves if leaf.chosen)
    lost = sum(len(leaf.words) for leaf in leaves if not leaf.chosen and not leaf.linked)
    if chosen == 0:
        return
    if lost > chosen:
        dropped = [leaf for leaf in leaves if not leaf.chosen and leaf.linked]
    else:
        kept = _kept(leaves)
        dropped = [leaf for leaf, keep in zip(leaves, kept, strict=True) if not keep]
    drop([leaf.element for leaf in dropped], scope)


def words_of(text: str) -> Words:
    """The words of a text, as they are compared."""
    return tuple(_WORD.findall(text.lower()))


def _shingles(words: Words) -> list[Words]:
    return [words[at : at + _SHINGLE] for at in range(len(words) - _SHINGLE + 1)]


def _leaves(scope: Element, article: Article) -> list[_Leaf]:
    """The innermost blocks of a tree that hold text."""
    holders: set[Element] = set()
    found = []
    for element in scope.iterdescendants(*_LEAVES):
        found.append(element)
        parent = element.getparent()
        while parent is not None and parent not in holders:
            holders.add(parent)
            parent = parent.getparent()
    leaves = []
    for element in found:
        words = words_of("".join(element.itertext())) if element not in holders else ()
        if words:
            leaves.append(_Leaf(element, words, article.holds(words), _is_linked(element, words)))
    return leaves


def _is_linked(element: Element, words: Words) -> bool:
    linked = sum(len(words_of("".join(link.itertext()))) for link in element.iter("a"))
    return linked > _LINKED * len(words)


def _kept(leaves: list[_Leaf]) -> list[bool]:
    """What stays: chosen blocks, reference matter between them, and headings of what stays."""
    chosen = [at for at, leaf in enumerate(leaves) if leaf.chosen]
    kept = []
    following = False
    for at in range(len(leaves) - 1, -1, -1):
        leaf = leaves[at]
        between = chosen[0] < at <= chosen[-1] + 1
        keep = leaf.chosen or (between and not leaf.linked and _is_reference(leaf.element))
        if leaf.element.tag in _HEADINGS:
            keep = keep or following
        following = keep
        kept.append(keep)
    return kept[::-1]


def _is_reference(element: Element) -> bool:
    """Whether a block is code, a definition or a cell of a table."""
    return element.tag in _REFERENCE or any(ancestor.tag in _REFERENCE for ancestor in element.iterancestors())
