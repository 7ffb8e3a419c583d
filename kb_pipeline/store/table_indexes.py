"""The full-text and vector indexes of a table: made, kept up to the last row, and asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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
        return {column for index in self._handle.table.list_indices() for column in index.columns}

    def unindexed_rows(self) -> int:
        """Return the most rows that any index has not seen yet."""
        table = self._handle.table
        stats = (table.index_stats(index.name) for index in table.list_indices())
        return max((int(each.num_unindexed_rows) for each in stats if each is not None), default=0)

    def create_text_index(self, column: str) -> None:
        """Make a full-text index over any script: ICU word boundaries, case and accents folded, no stemming."""
        from lancedb.index import FTS

        config = FTS(base_tokenizer="icu", stem=False, remove_stop_words=False, ascii_folding=True)
        with self._handle.commit("text_index"):
            self._handle.table.create_index(column, config=config, replace=True)

    def create_vector_index(self, column: str, rows: int) -> None:
        """Make a scalar-quantised inverted file, the fastest build of those with full recall after refining.

        Args:
            column: with the vectors.
            rows: of the table; they decide into how many partitions it is divided.
        """
        from lancedb.index import IvfSq

        config = IvfSq(distance_type="cosine", num_partitions=max(1, min(4096, rows // 4096)))
        with self._handle.commit("vector_index"):
            self._handle.table.create_index(column, config=config, replace=True)

    def drop(self) -> None:
        """Remove every index."""
        for index in self._handle.table.list_indices():
            with self._handle.commit("drop_index"):
                self._handle.table.drop_index(index.name)

    def update(self) -> None:
        """Give every index a part for its new rows; where there are many parts, make them one."""
        dataset = self._handle.dataset()
        for index in dataset.describe_indices():
            covered = {fragment for part in index.segments for fragment in part.fragment_ids}
            if all(fragment.fragment_id in covered for fragment in dataset.get_fragments()):
                continue
            merged = len(index.segments) if len(index.segments) >= _MAX_INDEX_PARTS else 0
            with self._handle.commit("index"):
                optimizer = self._handle.dataset().optimize
                optimizer.optimize_indices(index_names=[index.name], num_indices_to_merge=merged)

    def nearest(
        self, column: str, vector: NDArray[np.float32], limit: int, columns: Sequence[str], where: str | None
    ) -> pa.Table:
        """Return the `limit` rows nearest by cosine, with `_distance` and `_rowid`; raises DamagedStore."""
        query = self._handle.table.search(vector, vector_column_name=column).distance_type("cosine")
        query = query.nprobes(20).refine_factor(5).limit(limit)
        query = query.select([*columns, "_distance"]).with_row_id(True)
        with self._handle.reading():
            return (query.where(where, prefilter=True) if where else query).to_arrow()

    def matching(
        self, text: str, boosts: Mapping[str, float], limit: int, columns: Sequence[str], where: str | None
    ) -> pa.Table:
        """Return the `limit` rows that match the words best, by BM25, with `_score` and `_rowid`.

        Raises:
            DamagedStore: the index cannot be read.
        """
        from lancedb.query import FullTextOperator, MultiMatchQuery

        words = MultiMatchQuery(text, list(boosts), boosts=list(boosts.values()), operator=FullTextOperator.OR)
        query = (
            self._handle.table.search(words, query_type="fts")
            .select([*columns, "_score"])
            .with_row_id(True)
            .limit(limit)
        )
        with self._handle.reading():
            return (query.where(where, prefilter=True) if where else query).to_arrow()
