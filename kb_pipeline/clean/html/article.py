"""Tells news articles and blog posts from other pages, and reduces them to their text: what an extractor chose.

Around an article stand teasers, comments, authors' boxes and offers, in the same region and the same kind of paragraphs
as its text; an extractor made for articles tells them apart. On any other page it would lose content, so it is asked
about articles only.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from kb_pipeline.clean.html.removal import Removal
from kb_pipeline.clean.html.tables import span
from kb_pipeline.clean.html.weights import HEADINGS, Weights
from kb_pipeline.word_count import UNSPACED

Element = Any
Words = tuple[str, ...]

_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
"""A word; a letter of a script that does not part words by spaces (Thai, Lao, Burmese, Khmer, Japanese, Chinese)."""
_SHINGLE = 4
_MATCH_SHARE = 0.6
_LINK_SHARE = 0.5
_LEAST_WORDS = 100
"""Words of an article from which what an extractor chose is trusted."""
_MAX_COLUMNS = 20
_PROSE_SHARE = 0.4
"""Letters in paragraphs, of all letters outside links, from which a page may be an article."""
_MOST_AROUND = 4
"""Words around an article, for one of its own, from which the extractor took a part for the whole."""
_OPENING = 3000
"""Letters of a page in which a news article shows its date."""
_DATE = re.compile(
    r"\b(?:19|20)\d\d[-/.年년]\s?\d{1,2}[-/.月월]\s?\d{1,2}|\b\d{1,2}[-/.]\d{1,2}[-/.](?:19|20)?\d\d\b"
    r"|\b\d{1,2}(?:st|nd|rd|th|\.)?\s(?:de\s)?[^\W\d_]{3,12}\.?,?\s(?:de\s)?(?:19|20)\d\d\b"
    r"|\b[^\W\d_]{3,12}\.?\s\d{1,2}(?:st|nd|rd|th)?,?\s(?:19|20)\d\d\b"
)
_REFERENCE_SHARE = 0.3
"""Letters in code, definitions and tables, of the same, from which it is none."""
_LEAVES_TEXT = """
    p li dt dd td th pre blockquote h1 h2 h3 h4 h5 h6 figcaption caption summary div section article
    address center aside header footer main figure form details fieldset
"""
_LEAVES = frozenset(_LEAVES_TEXT.split())
_BLOCKS = _LEAVES | {"ul", "ol", "dl", "table", "nav", "hr"}
_REFERENCE = frozenset({"pre", "dl", "table", "code"})
_TYPES = re.compile(
    r"(?:^|/)(?:\w*News\w*Article|Article|ReportageNewsArticle|\w*BlogPosting|Blog|Report|Review)$", re.I
)
_OTHER_TYPES = re.compile(r"(?:^|/)(?:Product|TechArticle|HowTo|FAQPage|QAPage|APIReference|Recipe|ContactPage)$", re.I)
_PUBLISHED_TEXT = """
    article:published_time og:published_time datepublished date dc.date dc.date.issued pubdate publish-date publish_date
    parsely-pub-date sailthru.date article.published cxenseparse:recs:publishtime
"""
_PUBLISHED = frozenset(_PUBLISHED_TEXT.split())
_AUTHOR = frozenset({"author", "article:author", "parsely-author", "dc.creator", "sailthru.author", "byl"})
_BYLINE = re.compile(r"(?:^|[-_\s])(?:by-?line|author|posted-?(?:by|on)|pubdate|post-?date|date-?published)", re.I)


def declares_article(tree: Element) -> bool:
    """Return whether a page says that it is a news article or a blog post: two of a type, a date and an author.

    Asked before scripts are removed, since JSON-LD is one.
    """
    types = list(_types(tree))
    return not any(_OTHER_TYPES.search(name) for name in types) and len(_signs(tree, types)) >= 2


def reduce_to_article(tree: Element, scope: Element, url: str, focus: str, removal: Removal) -> None:
    """Remove from `scope` what is around its article; nothing if an extractor finds no article of some length."""
    chosen = _extract(tree, url, focus)
    if chosen is not None and chosen.words >= _LEAST_WORDS:
        _keep(scope, chosen, removal)


Sign = Literal["type", "date", "author"]


def _signs(tree: Element, types: Iterable[str]) -> set[Sign]:
    found: set[Sign] = {"type"} if any(_TYPES.search(name) for name in types) else set()
    for meta in tree.iter("meta"):
        name = (meta.get("name") or meta.get("property") or meta.get("itemprop") or "").strip().lower()
        if meta.get("content") and name in _PUBLISHED | _AUTHOR:
            found.add("date" if name in _PUBLISHED else "author")
    if "date" not in found and _DATE.search(_opening(tree)):
        found.add("date")
    for element in tree.iter("time", "a", "span", "p", "div", "address", "abbr"):
        if (element.tag == "time" and element.get("datetime")) or element.get("itemprop") == "datePublished":
            found.add("date")
        elif _names_author(element):
            found.add("author")
    return found


def _opening(tree: Element) -> str:
    """Return the first text of a page's body, without scripts and links."""
    body, pieces, length = tree.find("body"), [], 0
    for element in [] if body is None else body.iter():
        if element.tag not in ("script", "style", "noscript", "a") and element.text and element.text.strip():
            pieces.append(element.text)
            length += len(element.text)
        if element.tail and element.tail.strip():
            pieces.append(element.tail)
            length += len(element.tail)
        if length > _OPENING:
            break
    return " ".join(pieces)[:_OPENING]


def _names_author(element: Element) -> bool:
    if "author" in (element.get("rel") or "").split() or element.get("itemprop") == "author":
        return True
    return _BYLINE.search((element.get("class") or "")[:200]) is not None


def _types(tree: Element) -> Iterator[str]:
    """Yield what the page says it is: og:type, types of microdata and of JSON-LD."""
    for meta in tree.iter("meta"):
        if (meta.get("property") or meta.get("name") or "").strip().lower() == "og:type":
            yield (meta.get("content") or "").strip()
    for name in tree.xpath("//*[@itemtype]/@itemtype"):
        yield name.strip()
    for script in tree.iter("script"):
        if "ld+json" in (script.get("type") or "").lower():
            yield from re.findall(r'"@type"\s*:\s*\[?\s*"(\w+)"', script.text or "")


def is_prose(scope: Element) -> bool:
    """Return whether a region consists of paragraphs more than of code, definitions and tables."""
    weights = Weights(scope)
    whole = weights.unlinked(scope)
    prose = sum(weights.unlinked(element) for element in scope.iter("p"))
    reference = sum(
        weights.unlinked(element)
        for element in scope.iter("pre", "dl", "table")
        if not any(ancestor.tag in _REFERENCE for ancestor in element.iterancestors())
    )
    return prose >= _PROSE_SHARE * whole and reference < _REFERENCE_SHARE * whole


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The text that an extractor chose, as sets to look up blocks in constant time."""

    words: int
    shingles: frozenset[Words]
    short_blocks: frozenset[Words]

    @classmethod
    def of(cls, blocks: Iterable[str]) -> _Chosen:
        """Build the sets from the texts of the chosen blocks."""
        listed = [_words_in(block) for block in blocks]
        everything = tuple(word for words in listed for word in words)
        short = frozenset(words for words in listed if 0 < len(words) < _SHINGLE)
        return cls(len(everything), frozenset(_shingles(everything)), short)

    def holds(self, words: Words) -> bool:
        """Return whether a block with these words was chosen."""
        if len(words) < _SHINGLE:
            return words in self.short_blocks
        found = [shingle in self.shingles for shingle in _shingles(words)]
        return sum(found) >= _MATCH_SHARE * len(found)


def _extract(tree: Element, url: str, focus: str) -> _Chosen | None:
    """Return what trafilatura extracts as the article; None if it finds none."""
    from trafilatura import bare_extraction

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it logs content of pages
    for cell in tree.iter("td", "th"):
        if span(cell) > _MAX_COLUMNS:
            # trafilatura pads every row to the widest, which takes minutes for a hostile table
            cell.attrib.pop("colspan")
    found: Any = bare_extraction(
        tree, url=url or None, fast=True, include_comments=False, include_tables=True,
        favor_recall=focus == "recall", favor_precision=focus == "precision",
    )  # fmt: skip
    if found is None or found.body is None:
        return None
    blocks = ("".join(block.itertext()) for block in found.body.iter("p", "head", "item", "cell", "quote", "code"))
    return _Chosen.of(blocks)


@dataclass(slots=True)
class _Leaf:
    element: Element
    words: Words
    chosen: bool
    linked: bool
    """Whether it consists mostly of links, like a teaser or a menu."""


def _keep(scope: Element, chosen: _Chosen, removal: Removal) -> None:
    leaves = _leaves(scope, chosen)
    found = sum(len(leaf.words) for leaf in leaves if leaf.chosen)
    lost = sum(len(leaf.words) for leaf in leaves if not leaf.chosen and not leaf.linked)
    if found == 0 or lost > _MOST_AROUND * found:
        return  # the extractor took a part for the whole
    holders: set[Element] = {scope}
    for leaf, is_kept in zip(leaves, _kept(leaves), strict=True):
        if is_kept:
            holders.add(leaf.element)
            holders.update(leaf.element.iterancestors())
    stack = [scope]
    while stack:
        for element in list(stack.pop()):
            if element in holders:
                stack.append(element)
            elif element.tag in _BLOCKS and not chosen.holds(_words_in("".join(element.itertext()))):
                removal.remove(element, "navigation" if _is_linked(element) else "outside_article")


def _leaves(scope: Element, chosen: _Chosen) -> list[_Leaf]:
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
        words = _words_in("".join(element.itertext())) if element not in holders else ()
        if words:
            leaves.append(_Leaf(element, words, chosen.holds(words), _is_linked(element)))
    return leaves


def _is_linked(element: Element) -> bool:
    linked = sum(len(_words_in("".join(link.itertext()))) for link in element.iter("a"))
    return linked > _LINK_SHARE * len(_words_in("".join(element.itertext())))


def _kept(leaves: list[_Leaf]) -> list[bool]:
    """Return for each block whether it stays: chosen ones, code, tables and captions between them, and headings."""
    chosen = [position for position, leaf in enumerate(leaves) if leaf.chosen]
    kept = []
    following = False
    for position in range(len(leaves) - 1, -1, -1):
        leaf = leaves[position]
        between = chosen[0] < position <= chosen[-1] + 1
        keep = leaf.chosen or (between and not leaf.linked and _is_part(leaf.element))
        if leaf.element.tag in HEADINGS:
            keep = keep or following
        following = keep
        kept.append(keep)
    return kept[::-1]


def _is_part(element: Element) -> bool:
    """Return whether a block is code, a definition, a cell of a table or a picture's caption."""
    return (
        element.tag == "figcaption"
        or element.tag in _REFERENCE
        or any(ancestor.tag in _REFERENCE for ancestor in element.iterancestors())
    )


def _words_in(text: str) -> Words:
    return tuple(_WORD.findall(text.lower()))


def _shingles(words: Words) -> list[Words]:
    return [words[position : position + _SHINGLE] for position in range(len(words) - _SHINGLE + 1)]
