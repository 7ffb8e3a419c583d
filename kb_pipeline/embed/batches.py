"""Packs texts of similar length into batches of bounded work, so that little of it is spent on padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_BUDGET = 2048
"""Tokens a batch, padding included: larger ones leave the CPU's cache, smaller ones leave cores idle."""

_STEP = 8
"""Lengths are rounded up to it: fewer shapes to prepare kernels for, and full vector registers."""

Batch = tuple[list[int], NDArray[np.int64], NDArray[np.int64]]
"""Which texts, their token ids, and the mask that is 1 where there is a token."""


def padded_batches(token_ids: Sequence[list[int]]) -> Iterator[Batch]:
    """Every text once, longest first, each batch padded to its longest."""
    order = sorted(range(len(token_ids)), key=lambda index: -len(token_ids[index]))
    start = 0
    while start < len(order):
        length = -(-len(token_ids[order[start]]) // _STEP) * _STEP
        rows = order[start : start + max(1, _BUDGET // length)]
        yield rows, *_padded([token_ids[row] for row in rows], length)
        start += len(rows)


def _padded(token_ids: list[list[int]], length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ids = np.zeros((len(token_ids), length), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, tokens in enumerate(token_ids):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return ids, mask
