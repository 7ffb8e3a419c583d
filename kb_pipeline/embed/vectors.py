"""Checks vectors: invalid ones would be stored and searched without an error but give wrong results."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kb_pipeline.errors import InvalidVector

_TOLERANCE = 1e-3


def check_vectors(vectors: NDArray[Any], rows: int, dimension: int) -> None:
    """Raise InvalidVector unless there are `rows` finite float32 vectors of length 1, shape (rows, dimension)."""
    if vectors.shape != (rows, dimension):
        raise InvalidVector(f"expected {rows} vectors of dimension {dimension}, got the shape {vectors.shape}")
    if vectors.dtype != np.float32:
        raise InvalidVector(f"expected float32, got {vectors.dtype}")
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    # Negated so that NaN, for which every comparison is false, counts as bad.
    bad = np.flatnonzero(~(np.abs(norms - 1) <= _TOLERANCE))
    if bad.size:
        raise InvalidVector(f"vector {bad[0]} of {rows} has length {norms[bad[0]]:.4g} instead of 1")
