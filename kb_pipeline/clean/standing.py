"""Marks the documents that stand aside: copies of others, and what is no document of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from kb_pipeline.clean.duplicates import find_duplicates, rank
from kb_pipeline.clean.views import VIEWS_VERSION, LeftOut, find_views
from kb_pipeline.model import digest
from kb_pipeline.store.table import LanceTable

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_FOUND = ("duplicate_of", "left_out", "view_of", "judged")
_READ = ("document_id", "source", "key", "title", "canonical_url", "content_sha256", "document_hash", "sketch",
         "segments", "template", "signs")  # fmt: skip


class StandingAside:
    """Compares all documents of a KB with one another whenever one of them has changed.

    Args:
        documents: the table.
        starts: keys that people named, which always stay.
        keep_views: sources of which only copies stand aside.
    """

    def __init__(self, documents: LanceTable, starts: set[str], keep_views: Collection[str]) -> None:
        self._documents, self._starts, self._keep_views = documents, starts, keep_views
        self._rules = digest("views", VIEWS_VERSION, *sorted(starts))

    def mark(self, gone: Sequence[str]) -> None:
        """Write which documents stand aside, where that changed.

        Args:
            gone: ids of documents that are about to be deleted: those that stood aside for them come back.
        """
        import polars as pl

        before = self._documents.read_columns(["document_id", "source", *_FOUND], "outcome = 'document'")
        before = before.filter(~pl.col("document_id").is_in(list(gone)))
        if not gone and self._is_current(before):
            return
        rows = self._documents.read_columns(_READ, "outcome = 'document'")
        found = self._found(rank(rows.filter(~pl.col("document_id").is_in(list(gone)))))
        changed = found.join(
            before.select("document_id", *_FOUND), on=["document_id", *_FOUND], how="anti", nulls_equal=True
        )
        if not changed.is_empty():
            self._documents.upsert(changed.to_arrow().cast(self._schema()))

    def _is_current(self, rows: pl.DataFrame) -> bool:
        """Return whether every document was judged by these rules, and what stands for others is there."""
        import polars as pl

        named = pl.concat([rows["duplicate_of"], rows["view_of"]]).drop_nulls()
        judged = [self._judged_by(source) for source in rows["source"]]
        return rows["judged"].to_list() == judged and bool(named.is_in(rows["document_id"].implode()).all())

    def _judged_by(self, source: str) -> str:
        return f"{self._rules} {'keep' if source in self._keep_views else 'skip'}"

    def _found(self, ranked: pl.DataFrame) -> pl.DataFrame:
        import polars as pl

        twins = find_duplicates(ranked)
        views: dict[str, LeftOut] = {}
        for (source,), rows in ranked.join(twins, on="document_id", maintain_order="left").group_by("source"):
            if source not in self._keep_views:
                views |= find_views(rows, self._starts)
        ids = twins["document_id"].to_list()
        found = [views.get(each) for each in ids]
        return twins.with_columns(
            pl.Series("left_out", [each and each.reason for each in found], dtype=pl.String),
            pl.Series("view_of", [each and each.view_of for each in found], dtype=pl.String),
        ).join(
            ranked.select("document_id", judged=pl.Series([self._judged_by(name) for name in ranked["source"]])),
            on="document_id",
        )

    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([self._documents.schema.field(name) for name in ("document_id", *_FOUND)])
