"""Tells whether a parsed page is a shell that scripts are to fill."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kb_pipeline.script_shell import Place, asks_for_scripts, is_shell, is_unread, place_of

Element = Any


def is_filled_by_scripts(tree: Element) -> bool:
    """Return whether a page shows next to nothing before its scripts run."""
    if next(tree.iter("script"), None) is None:
        return False
    asks = any(asks_for_scripts("".join(message.itertext())) for message in tree.iter("noscript"))
    return is_shell(_pieces(tree), asks=asks)


def _pieces(tree: Element) -> Iterator[tuple[str, Place]]:
    """Yield what `is_shell` reads of a tree."""
    waiting: list[tuple[Element | str, Place]] = [(tree, Place.BODY)]
    while waiting:
        part, outer = waiting.pop()
        if isinstance(part, str):
            yield part, outer
            continue
        if part.tail and part is not tree:
            waiting.append((part.tail, outer))
        if not is_unread(part.tag, part.get):
            place = place_of(part.tag, part.get, outer)
            yield part.text or "", place
            waiting.extend((child, place) for child in reversed(part))
