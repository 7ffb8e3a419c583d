"""Keeps a tool's result within the tokens that its caller allows, as a host would count them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from kb_pipeline.errors import UsageError
from kb_pipeline.model import JsonObject
from kb_pipeline.service.cl100k import count_tokens
from kb_pipeline.service.mcp.results import Result

LEAST_TOKENS, DEFAULT_TOKENS, MOST_TOKENS = 500, 4_000, 25_000
"""Hosts cut a result off, or spill it to disk, beyond 25,000."""
_MOST_ESCAPES = 1.5
_Result = TypeVar("_Result", bound=Result)


def result_tokens(text: str, structured: JsonObject) -> int:
    """Return how many tokens of cl100k_base a result takes: its text and its JSON together, since hosts pass on both.

    Some hosts escape in JSON what is not ASCII, as Python's `json.dumps` does by default. That is counted as far as it
    adds no more than a half, which covers languages in Latin letters. Chinese would take five times its tokens: a
    host that escaped it would have no use for it.
    """
    plain = count_tokens(text) + count_tokens(json.dumps(structured, ensure_ascii=False))
    if text.isascii():
        return plain
    escaped = count_tokens(json.dumps(text)) + count_tokens(json.dumps(structured))
    return max(plain, min(escaped, int(plain * _MOST_ESCAPES)))


def fit(make: Callable[[int], _Result], most: int, max_tokens: int) -> _Result:
    """Return the largest of some results that fits; see `largest`.

    Raises:
        UsageError: not even the smallest one fits.
    """
    if (found := largest(make, most, max_tokens)) is not None:
        return found
    least = _size(make(1))
    raise UsageError(f"max_tokens is {max_tokens}; this takes {least} at least: raise it, up to {MOST_TOKENS}")


def largest(make: Callable[[int], _Result], most: int, max_tokens: int) -> _Result | None:
    """Return the largest of the results `make(1)` to `make(most)` that fits; None if not even the first one does.

    Args:
        make: builds the result with the first `n` of what there is, saying what it leaves out.
        most: all that there is. If that is nothing, `make(0)` is returned.
        max_tokens: what the result may take.
    """
    whole = make(most)
    if _size(whole) <= max_tokens or not most:
        return whole
    best, fits, exceeds = None, 0, most
    while exceeds - fits > 1:
        middle = (fits + exceeds) // 2
        made = make(middle)
        if _size(made) <= max_tokens:
            best, fits = made, middle
        else:
            exceeds = middle
    return best


def _size(result: Result) -> int:
    return result_tokens(result.as_text(), result.as_structured())
