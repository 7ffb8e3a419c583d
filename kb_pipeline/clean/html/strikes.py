"""Marks struck text as `del`, also where a style or a whole block says that a line runs through it.

What is struck holds no more: the price before, a service that ended, a rule that was repealed.
"""

from __future__ import annotations

import re
from typing import Any

Element = Any

_STRUCK_TAGS = frozenset({"del", "s", "strike"})
_CANDIDATES = (
    "//del | //s | //strike | //*[contains(@style, 'line-through')]"
    " | //*[contains(@class, 'through') or contains(@class, 'price')]"
)
_STYLE = re.compile(r"text-decoration(?:-line)?\s*:[^;]*\bline-through\b", re.I)
# Of CSS frameworks, and of shops, where the old price stands next to the new one.
_NAMES_TEXT = """
    line-through text-decoration-line-through strikethrough text-strikethrough old-price price-old oldprice price--old
    was-price price-was price--was price__old price__was
"""
_NAMES = frozenset(_NAMES_TEXT.split())
_BLOCKS = ("p", "li", "td", "th", "dt", "dd", "div", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "figcaption")
_OTHER_BLOCKS = ("ul", "ol", "dl", "table", "pre", "section", "article", "tr")


def mark_struck_text(tree: Element) -> None:
    """Put `del` around all inline content of a page that is struck."""
    seen: set[Element] = set()
    for element in tree.xpath(_CANDIDATES):
        if element in seen or not _is_struck(element):
            continue
        blocks = list(element.iterdescendants(*_BLOCKS, *_OTHER_BLOCKS))
        if not blocks and element.tag not in _BLOCKS:
            element.tag = "del"
            continue
        seen.update(element.iterdescendants())
        if element.tag in _STRUCK_TAGS:
            element.tag = "div"
        holders = {block.getparent() for block in blocks}
        for block in (element, *blocks):
            if block.tag in _BLOCKS and block not in holders:
                _wrap(block)


def _is_struck(element: Element) -> bool:
    if element.tag in _STRUCK_TAGS or _STYLE.search((element.get("style") or "")[:500]):
        return True
    return not _NAMES.isdisjoint((element.get("class") or "")[:500].lower().split())


def _wrap(block: Element) -> None:
    """Put all content of a block into a `del`."""
    struck = block.makeelement("del")
    struck.text, block.text = block.text, None
    for child in list(block):
        struck.append(child)
    block.append(struck)
