"""Reduces a page to its article: the blocks that an extractor chose, and code and tables between them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kb_pipeline.clean.html.inline import Element
from kb_pipeline.clean.html.regions import remove

_WORD = re.compile(r"\w+")
_SHINGLE = 4
_MATCH_SHARE = 0.6
_LINK_SHARE = 0.5
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
    """The text that an extractor chose, as sets to look up its blocks in constant time."""

    words: int
    shingles: frozenset[Words]
    short_blocks: frozenset[Words]

    @classmethod
    def of(cls, blocks: Iterable[str]) -> Article:
        """Build the sets from the texts of the chosen blocks."""
        listed = [words_in(block) for block in blocks]
        everything = tuple(word for words in listed for word in words)
        short = frozenset(words for words in listed if 0 < len(words) < _SHINGLE)
        return cls(len(everything), frozenset(_shingles(everything)), short)

    def holds(self, words: Words) -> bool:
        """Return whether a block with these words was chosen."""
        if len(words) < _SHINGLE:
            return words in self.short_blocks
        found = [shingle in self.shingles for shingle in _shingles(words)]
        return sum(found) >= _MATCH_SHARE * len(found)


@dataclass(slots=True)
class _Leaf:
    element: Element
    words: Words
    chosen: bool
    linked: bool
    """Whether it consists mostly of links, like a teaser or a menu."""


def keep_article(scope: Element, article: Article) -> None:
    """Remove the blocks outside the article from a tree; only those made of links if the extractor lost most text."""
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
    remove([leaf.element for leaf in dropped], scope)


def words_in(text: str) -> Words:
    """Return the words of a text in lower case."""
    return tuple(_WORD.findall(text.lower()))


def _shingles(words: Words) -> list[Words]:
    return [words[position : position + _SHINGLE] for position in range(len(words) - _SHINGLE + 1)]


def _leaves(scope: Element, article: Article) -> list[_Leaf]:
    """Return the innermost blocks of a tree that have text."""
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
        words = words_in("".join(element.itertext())) if element not in holders else ()
        if words:
            leaves.append(_Leaf(element, words, article.holds(words), _is_linked(element, words)))
    return leaves


def _is_linked(element: Element, words: Words) -> bool:
    linked = sum(len(words_in("".join(link.itertext()))) for link in element.iter("a"))
    return linked > _LINK_SHARE * len(words)


def _kept(leaves: list[_Leaf]) -> list[bool]:
    """Return for each block whether it stays: chosen ones, code and tables between them, and their headings."""
    chosen = [position for position, leaf in enumerate(leaves) if leaf.chosen]
    kept = []
    following = False
    for position in range(len(leaves) - 1, -1, -1):
        leaf = leaves[position]
        between = chosen[0] < position <= chosen[-1] + 1
        keep = leaf.chosen or (between and not leaf.linked and _is_reference(leaf.element))
        if leaf.element.tag in _HEADINGS:
            keep = keep or following
        following = keep
        kept.append(keep)
    return kept[::-1]


def _is_reference(element: Element) -> bool:
    """Return whether a block is code, a definition or a cell of a table."""
    return element.tag in _REFERENCE or any(ancestor.tag in _REFERENCE for ancestor in element.iterancestors())
