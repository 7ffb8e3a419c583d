"""Counts words in every script, also in those that put no space between them."""

from __future__ import annotations

import re

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
)
"""Thai, Lao, Burmese, Khmer, kana and Han: their words are about two characters long."""
_WORD = re.compile(rf"[{UNSPACED}]{{1,2}}|[^\W{UNSPACED}]+")


def count_words(text: str) -> int:
    """Return the number of words in a text; two characters of a script without spaces count as one."""
    return len(_WORD.findall(text))
