"""Takes out of headings what is not their text: anchors, links to edit or copy, labels for screen readers only.

An anchor is known by what it is, not by the class of a theme: a link to a place in the page that shows nothing, a mark
such as `#` or `¶`, or the name of what it does; and that is not all there is of the heading (mdBook links whole ones).
"""

from __future__ import annotations

import re
import unicodedata
from itertools import islice
from typing import Any

from kb_pipeline.clean.html.text_start import text_start

Element = Any

_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_WORD = re.compile(r"\w")
_OPERATORS = frozenset("+-*/=<>~%&|!^.?@$:")
"""Marks that name something themselves, as in the manual of a language: no anchors."""
_ANCHOR_TEXT = re.compile(
    r"\W*(?:perma-?link|permanent ?link|direct link|link|link copied!?|copy(?: link| url| heading link)?|copied!?"
    r"|anchor|anchor link|share|share this|section link|heading anchor|permalien|lien permanent|enlace permanente"
    r"|固定链接|永久链接|パーマリンク)\W*",
    re.I,
)
_ANCHOR_OPENING = re.compile(
    r"\W*(?:permalink|permanent link|direct link|copy link|link|anchor|section titled|navigate|jump) ?(?:to|for|of)?\b",
    re.I,
)
_EDIT_TEXT = re.compile(
    r"\W*(?:edit|edit (?:section|source|this|this page|this section|on git\w+)|view (?:source|page source)|source|src"
    r"|suggest edits?|bearbeiten|quelltext bearbeiten|modifier|modifier le code|editar|editar código|modifica"
    r"|редактировать|править|править код|编辑|編集|ソースを編集|編輯|편집)\W*",
    re.I,
)
_EDIT_TARGET = re.compile(r"edit|/src/|/source|_modules|/blob/|/tree/|#L\d|src-html|\.rs\.html", re.I)
_UNSEEN_NAMES_TEXT = """
    sr-only visually-hidden visuallyhidden screen-reader-text screen-reader-only screenreader screen-reader sronly
    u-visually-hidden a11y-hidden hidden-visually assistive-text offscreen off-screen element-invisible show-for-sr
    usa-sr-only mw-visually-hidden
"""
_UNSEEN_NAMES = frozenset(_UNSEEN_NAMES_TEXT.split())
_UNSEEN_STYLE = re.compile(r"clip(?:-path)?\s*:\s*(?:rect\(|inset\(50%)|(?:left|text-indent)\s*:\s*-\d{3,}", re.I)
_MAX_NODES = 80


def strip_anchors(tree: Element) -> None:
    """Remove anchors, edit links and unseen labels from the headings of a page, and the anchors beside them."""
    for heading in list(tree.iter(*_HEADINGS)) + tree.xpath("//*[@role='heading']"):
        if any(ancestor.tag in _HEADINGS for ancestor in islice(heading.iterancestors(), 6)):
            continue  # the parser nests headings that are not closed
        _strip(heading)
        for beside in (heading.getprevious(), heading.getnext()):
            if beside is not None and beside.tag == "a" and _is_anchor_beside(beside, heading):
                beside.drop_tree()


def is_unseen(element: Element) -> bool:
    """Return whether an element is for screen readers only, by its class or style."""
    if not _UNSEEN_NAMES.isdisjoint((element.get("class") or "")[:500].lower().split()):
        return True
    style = element.get("style")
    return style is not None and _UNSEEN_STYLE.search(style[:500]) is not None


def to_fragment(link: Element) -> str | None:
    """Return the place in the page to which a link leads; None if it leads elsewhere."""
    href = (link.get("href") or "").strip()
    return href[1:] if href.startswith("#") else None


def _strip(heading: Element) -> None:
    """Remove the marks of a heading, one after the other while it has other words."""
    for part in list(islice(heading.iterdescendants("a", "span", "button", "i", "small", "sup"), _MAX_NODES)):
        if part.getparent() is not None and _is_mark(part) and _has_other_words(heading, part):
            part.drop_tree()


def _is_mark(element: Element) -> bool:
    text = _text(element)
    if element.tag == "a":
        is_empty = (
            not text and next(element.iter("img"), None) is None
        )  # drawn by its style, named by its title at most
        return is_empty or _is_anchor(element, text) or _is_edit_link(element, text)
    if element.tag == "button":
        return not _WORD.search(text) or _ANCHOR_TEXT.fullmatch(text) is not None
    if is_unseen(element) or "editsection" in (element.get("class") or ""):
        return True
    return element.get("aria-hidden") == "true" and bool(text) and _is_sign(text)


def _is_anchor(link: Element, text: str) -> bool:
    if to_fragment(link) is None and not (link.get("href") or "").startswith("javascript:"):
        # Some link their own address in full; a mark alone says nothing wherever it leads.
        return "#" in (link.get("href") or "") and bool(text) and _is_sign(text)
    seen = _seen_text(link)
    if (link.get("href") or "").strip() == "#":
        return True  # a control: what it does is in a script
    return not seen or _is_sign(seen) or _ANCHOR_TEXT.fullmatch(seen) is not None


def _is_edit_link(link: Element, text: str) -> bool:
    return _EDIT_TEXT.fullmatch(text) is not None and _EDIT_TARGET.search((link.get("href") or "")[:2000]) is not None


def _is_anchor_beside(link: Element, heading: Element) -> bool:
    """Return whether a link next to a heading leads to it and says no more than it: "Section titled Install"."""
    fragment = to_fragment(link)
    if fragment is None or (link.tail or "").strip():
        return False
    seen = _seen_text(link)
    if not seen or _is_sign(seen) or _ANCHOR_TEXT.fullmatch(seen):
        return bool(fragment)
    is_its_own = fragment in (heading.get("id"), *(part.get("id") for part in islice(heading.iterdescendants(), 20)))
    return is_its_own and _ANCHOR_OPENING.match(seen) is not None and _text(heading) in seen


def _is_sign(text: str) -> bool:
    """Return whether a text is nothing but marks of an anchor: #, ¶, §, a link symbol, a glyph of an icon font."""
    return not _WORD.search(text) and not any(char in _OPERATORS for char in text) and not _is_emoticon(text)


def _is_emoticon(text: str) -> bool:
    """Return whether a text is a symbol of its own, such as a flag; links are drawn as 🔗, ⛓, ⚓."""
    return any(unicodedata.category(char) == "So" and char not in "🔗⛓⚓☍⚯🖇📎" for char in text)


def _text(element: Element) -> str:
    return " ".join(text_start(element, _MAX_NODES).split()).strip("\u200b\u2060\ufeff\xad")


def _seen_text(element: Element) -> str:
    """Return the text of a link without what only screen readers say, and titles of its drawings."""
    pieces = [element.text or ""]
    for child in islice(element, _MAX_NODES):
        if not (is_unseen(child) or child.tag == "svg"):
            pieces.append(_text(child) if child.get("aria-hidden") != "true" or _WORD.search(_text(child)) else "")
        pieces.append(child.tail or "")
    return " ".join("".join(pieces).split()).strip("\u200b\u2060\ufeff\xad")


def _has_other_words(heading: Element, part: Element) -> bool:
    inside = text_start(part, _MAX_NODES)
    around = text_start(heading, 2 * _MAX_NODES)
    return len(_WORD.findall(around)) > len(_WORD.findall(inside))
