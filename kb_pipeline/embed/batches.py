"""Packs texts of similar length into batches of limited size, so that little work is spent on padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_MAX_BATCH_TOKENS = 2048
"""Tokens a batch, padding included: larger batches exceed the CPU's cache, smaller ones leave cores idle."""

_STEP = 8
"""Lengths are rounded up to a multiple of it: fewer shapes to compile kernels for, and full vector registers."""

Batch = tuple[list[int], NDArray[np.int64], NDArray[np.int64]]
"""The indexes of the texts, their token ids, and the attention mask; both arrays have the shape (texts, length)."""


def padded_batches(token_ids: Sequence[list[int]]) -> Iterator[Batch]:
    """Yield batches that hold every text once, longest first, each padded to its longest text."""
    order = sorted(range(len(token_ids)), key=lambda index: -len(token_ids[index]))
    start = 0
    while start < len(order):
        length = -(-len(token_ids[order[start]]) // _STEP) * _STEP
        rows = order[start : start + max(1, _MAX_BATCH_TOKENS // length)]
        yield rows, *_pad([token_ids[row] for row in rows], length)
        start += len(rows)


def _pad(token_ids: list[list[int]], length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ids = np.zeros((len(token_ids), length), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, tokens in enumerate(token_ids):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return ids, mask
