"""Reads the text at the start of an element, looking at so many elements in it at most."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Any

Element = Any


def text_start(element: Element, parts: int, skipped: Collection[str] = ()) -> str:
    """Return the text of an element's first parts; `itertext` would search all of one that has no text."""
    from lxml import etree

    found = []
    for event, part in islice(etree.iterwalk(element, events=("start", "end")), 2 * parts):
        if event == "start" and part.tag not in skipped:
            found.append(part.text)
        elif event == "end" and part is not element:
            found.append(part.tail)
    return "".join(filter(None, found))
