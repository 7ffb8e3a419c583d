"""Ranks all vectors of a small version in memory: an index costs more than it saves there, and so does reading them."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kb_pipeline.store.table import LanceTable

_SPARE = 64
"""Candidates beyond those wanted. A matrix product rounds equal rows differently by where they stand, so what is near
the end of a ranking is compared again one by one."""

_TAKEN_AT_ONCE = 8192
"""Rows read at once, where only some are."""


class ExactVectors:
    """The unit vectors of an index table: float32 of shape (rows, dimension), with the chunk and row id of each."""

    def __init__(self, chunk_ids: list[str], row_ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        self._chunk_ids, self._row_ids, self._vectors = chunk_ids, row_ids, vectors

    @classmethod
    def read(cls, table: LanceTable, rows: NDArray[np.int64] | None = None) -> ExactVectors:
        """Read them all, or those of some rows; raises DamagedStore."""
        columns = ["chunk_id", "vector"]
        if rows is None:
            frame = table.read_columns(columns, row_ids=True)
        else:
            parts = table.take(rows.tolist(), columns, _TAKEN_AT_ONCE)
            frame = pl.concat([pl.DataFrame(part) for part in parts]).with_columns(_rowid=rows)
        vectors = np.ascontiguousarray(frame["vector"].to_numpy(), dtype=np.float32)
        return cls(frame["chunk_id"].to_list(), frame["_rowid"].to_numpy().astype(np.int64), vectors)

    def nearest(
        self, vector: NDArray[np.float32], limit: int, among: NDArray[np.integer] | None = None
    ) -> list[tuple[float, str, int]]:
        """Return cosine similarity, chunk id and row id of the nearest vectors, nearest first.

        Args:
            vector: of length 1.
            limit: how many at most.
            among: only rows of these ids.
        """
        similarities = self._vectors @ vector
        if among is not None:
            similarities[~np.isin(self._row_ids, among)] = -np.inf
        wanted = min(limit + _SPARE, len(similarities))
        best = np.argpartition(-similarities, wanted - 1)[:wanted] if wanted else np.empty(0, dtype=np.int64)
        best = best[np.isfinite(similarities[best])]
        exact = np.sum(self._vectors[best].astype(np.float64) * vector.astype(np.float64), axis=1)
        found = (
            (float(score), self._chunk_ids[n], int(self._row_ids[n])) for n, score in zip(best, exact, strict=True)
        )
        return sorted(found, key=lambda each: (-each[0], each[1]))[:limit]
