"""Reads off an element whether the page hides it at first, and names by which pages tell its purpose."""

from __future__ import annotations

import re
from typing import Any

Element = Any

_STYLE = re.compile(r"(?:^|[;\s])(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.I)
_SPLIT = re.compile(r"[\s_-]+|(?<=[a-z])(?=[A-Z])")


def is_hidden(element: Element) -> bool:
    """Return whether an element is not shown at first, by its attributes."""
    if element.get("hidden") is not None or element.get("aria-hidden") == "true":
        return True
    style = element.get("style")
    return style is not None and _STYLE.search(style[:1000]) is not None


def is_only_unspoken(element: Element) -> bool:
    """Return whether an element is hidden from screen readers only, or by a script that moves it into sight."""
    if element.get("aria-hidden") != "true" or element.get("hidden") is not None:
        return False
    return _STYLE.search((element.get("style") or "")[:1000]) is None


def name_tokens(element: Element) -> set[str]:
    """Return the words in an element's class and id, in lower case."""
    names = f"{(element.get('class') or '')[:500]} {(element.get('id') or '')[:100]}"
    return {token.lower() for token in _SPLIT.split(names) if token}
