"""Removes elements from a page and counts the words that go with them, by reason."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from kb_pipeline.word_count import count_words

Element = Any

Reason = Literal["navigation", "controls", "hidden", "outside_main", "repeated", "outside_article"]
"""Why words of a page are not in its document.

`navigation`: mostly links, or what frames a page and not its text. `controls`: forms, menus, dialogs. `hidden`: what no
reader can bring to view. `outside_main`: outside what the page marks as its main content. `repeated`: the same on many
pages of the source. `outside_article`: around a news article or a blog post: teasers, comments, authors' boxes.
"""
_UNREAD = ("script", "style", "noscript", "template", "head")


class Removal:
    """What was removed from one page."""

    def __init__(self) -> None:
        self.words: Counter[str] = Counter()
        """Words removed, by reason."""

    def remove(self, element: Element, reason: Reason) -> None:
        """Remove an element, but keep the text after it; its words are counted, those of scripts and styles are not."""
        if element.getparent() is None:
            return
        self.words[reason] += words_of(element)
        element.drop_tree()


def words_of(element: Element) -> int:
    """Return the number of words in an element that a reader could see."""
    texts: list[str | None] = []
    stack = [element]
    while stack:
        part = stack.pop()
        texts.append(part.tail if part is not element else None)
        if part.tag not in _UNREAD:
            texts.append(part.text)
            stack.extend(part)
    return sum(count_words(text) for text in texts if text)
