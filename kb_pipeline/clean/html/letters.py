"""Counts letters inside few elements of a tree: small ones by themselves, large ones by weighing the whole tree."""

from __future__ import annotations

from functools import cached_property
from itertools import islice
from typing import Any

from kb_pipeline.clean.html.weights import Weights

Element = Any

_SMALL = 200
"""Elements inside one that is counted by itself: so nested ones take no quadratic time."""


class Letters:
    """The letters in elements of one tree; cheap where few are asked for."""

    def __init__(self, tree: Element) -> None:
        self._tree = tree
        self._counted: dict[Element, tuple[int, int]] = {}

    @cached_property
    def _weights(self) -> Weights:
        return Weights(self._tree)

    @cached_property
    def page(self) -> int:
        """The number of letters outside links in the tree, as it was when first asked for."""
        text, linked = _count(self._tree)
        return text - linked

    def text(self, element: Element) -> int:
        """Return the number of letters in an element."""
        return self._both(element)[0]

    def linked(self, element: Element) -> int:
        """Return the number of letters of links in an element."""
        return self._both(element)[1]

    def unlinked(self, element: Element) -> int:
        """Return the number of letters outside links in an element."""
        text, linked = self._both(element)
        return text - linked

    def _both(self, element: Element) -> tuple[int, int]:
        if element not in self._counted:
            is_large = next(islice(element.iter(), _SMALL, None), None) is not None
            weighed = (self._weights.text(element), self._weights.linked(element)) if is_large else _count(element)
            self._counted[element] = weighed
        return self._counted[element]


def _count(element: Element) -> tuple[int, int]:
    links = (link for link in element.iter("a") if link.get("href") is not None)
    return _letters(element), sum(_letters(link) for link in links)


def _letters(element: Element) -> int:
    return sum(len(text.strip()) for text in element.itertext())
