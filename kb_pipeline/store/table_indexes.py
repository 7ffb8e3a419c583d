"""The full-text and vector indexes of a table: made, kept up to the last row, and asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kb_pipeline.store.table_handle import TableHandle

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

_MAX_INDEX_PARTS = 8
"""New rows get an index part of their own, at a cost of what is new. Every eighth time all parts become one: a search
asks each part (0.4 ms each of 12,000 rows). Text indexes are a tenth of a table, so old copies that are still kept
weigh a tenth; merging costs 20 s a million rows, an eighth of it a refresh."""


class TableIndexes:
    """The indexes of one table."""

    def __init__(self, handle: TableHandle) -> None:
        self._handle = handle

    def columns(self) -> set[str]:
        """Return the columns that have an index."""
        return {column for index in self._handle.table.describe_indices() for column in index.field_names}

    def unindexed_rows(self) -> int:
        """Return the most rows that any index has not seen yet."""
        table = self._handle.table
        # Not from Lance's own statistics, which load the vector index and warn that they do.
        unseen = (_unseen(table, index) for index in table.describe_indices())
        return max((sum(fragment.metadata.num_rows for fragment in each) for each in unseen), default=0)

    def create_text_index(self, column: str) -> None:
        """Make a full-text index over any script: ICU word boundaries, case and accents folded, no stemming."""
        with self._handle.commit("text_index"):
            self._handle.table.create_scalar_index(
                column, "INVERTED", base_tokenizer="icu", stem=False, remove_stop_words=False, ascii_folding=True
            )

    def create_vector_index(self, column: str, rows: int) -> None:
        """Make a scalar-quantised inverted file, the fastest build of those with full recall after refining.

        Args:
            column: with the vectors.
            rows: of the table; they decide into how many partitions it is divided.
        """
        parts = max(1, min(4096, rows // 4096))
        with self._handle.commit("vector_index"):
            self._handle.table.create_index(column, "IVF_SQ", metric="cosine", num_partitions=parts, replace=True)

    def drop(self) -> None:
        """Remove every index."""
        for index in self._handle.table.describe_indices():
            with self._handle.commit("drop_index"):
                self._handle.table.drop_index(index.name)

    def update(self) -> None:
        """Give every index a part for its new rows; where there are many parts, make them one."""
        dataset = self._handle.head()
        for index in dataset.describe_indices():
            if not _unseen(dataset, index):
                continue
            merged = len(index.segments) if len(index.segments) >= _MAX_INDEX_PARTS else 0
            with self._handle.commit("index"):
                optimizer = self._handle.head().optimize
                optimizer.optimize_indices(index_names=[index.name], num_indices_to_merge=merged)

    def nearest(
        self, column: str, vector: NDArray[np.float32], limit: int, columns: Sequence[str], where: str | None
    ) -> pa.Table:
        """Return the `limit` rows nearest by cosine, with `_distance` and `_rowid`; raises DamagedStore."""
        query = {"column": column, "q": vector, "k": limit, "metric": "cosine", "nprobes": 20, "refine_factor": 5}
        with self._handle.reading():
            return self._handle.table.to_table(
                [*columns, "_distance"], filter=where, prefilter=True, nearest=query, with_row_id=True
            )

    def matching(
        self, text: str, boosts: Mapping[str, float], limit: int, columns: Sequence[str], where: str | None
    ) -> pa.Table:
        """Return the `limit` rows that match the words best, by BM25, with `_score` and `_rowid`.

        Raises:
            DamagedStore: the index cannot be read.
        """
        from lance.query import FullTextOperator, MultiMatchQuery

        words = MultiMatchQuery(text, list(boosts), boosts=list(boosts.values()), operator=FullTextOperator.OR)
        with self._handle.reading():
            return self._handle.table.to_table(
                [*columns, "_score"], filter=where, prefilter=True, full_text_query=words, limit=limit, with_row_id=True
            )


def _unseen(dataset: Any, index: Any) -> list[Any]:  # noqa: ANN401 - both are lance's
    """Return the files of a dataset that no part of the index covers."""
    covered = {number for part in index.segments for number in part.fragment_ids}
    return [fragment for fragment in dataset.get_fragments() if fragment.fragment_id not in covered]
