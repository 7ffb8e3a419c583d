"""The terminal: where text for people goes, and what may not go there."""

from __future__ import annotations

from rich.console import Console

_HARMLESS = "\n\t\u00a0\u00ad\u2007\u2009\u200b\u200c\u200d\u202f\u3000"
"""Not printable for Python, but part of how languages are written: spaces, soft hyphens, joiners and non-joiners."""
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def printable(text: str) -> str:
    """Replace control characters, so that a page's title cannot drive the terminal."""
    return "".join(c if c.isprintable() or c in _HARMLESS else "\N{REPLACEMENT CHARACTER}" for c in text)
