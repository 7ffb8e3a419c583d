"""Counts letters, links and headings inside each element of a tree, in one pass."""

from __future__ import annotations

from typing import Any

Element = Any

HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})


class Weights:
    """How much text stands in each element of a tree as it is now.

    Letters and not words are counted: Chinese, Japanese and Thai do not part words by spaces.
    """

    def __init__(self, root: Element) -> None:
        self._text: dict[Element, int] = {}
        self._linked: dict[Element, int] = {}
        self._links: dict[Element, int] = {}
        self._with_heading: set[Element] = set()
        for element in reversed(list(root.iter())):
            self._add(element)

    def text(self, element: Element) -> int:
        """Return the number of letters in an element."""
        return self._text.get(element, 0)

    def linked(self, element: Element) -> int:
        """Return the number of letters of links in an element, or of the link that it is."""
        return self._linked.get(element, 0)

    def unlinked(self, element: Element) -> int:
        """Return the number of letters outside links in an element."""
        return self.text(element) - self.linked(element)

    def links(self, element: Element) -> int:
        """Return the number of links in an element that have text."""
        return self._links.get(element, 0)

    def has_heading(self, element: Element) -> bool:
        """Return whether an element is a heading or holds one."""
        return element in self._with_heading

    def _add(self, element: Element) -> None:
        text, linked, links = len((element.text or "").strip()), 0, 0
        for child in element:
            text += self._text[child] + len((child.tail or "").strip())
            linked += self._linked[child]
            links += self._links[child]
        if element.tag in HEADINGS or any(child in self._with_heading for child in element):
            self._with_heading.add(element)
        if element.tag == "a" and element.get("href") is not None:
            linked, links = text, int(text > 0)
        self._text[element], self._linked[element], self._links[element] = text, linked, links
