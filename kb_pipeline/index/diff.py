"""Compares two versions of a KB: their documents and chunks, also as a feed that an outside index can follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kb_pipeline.index.documents import KEPT, open_table
from kb_pipeline.store.lance_table import KbStore, LanceTable

if TYPE_CHECKING:
    import polars as pl

_BATCH = 512
_PLACE = ("key", "source", "document_id", "start", "end", "chunk_id")
"""The order of every list: by key, and within a document from its beginning to its end."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The rows of a table that differ between two versions, in order, with the row ids to read them by.

    `removed` are rows of the earlier version, `added` and `changed` of the later one.
    """

    added: pl.DataFrame
    changed: pl.DataFrame
    removed: pl.DataFrame
    unchanged: int

    def counts(self) -> dict[str, int]:
        """How many rows are of each kind."""
        kinds = {"added": self.added, "changed": self.changed, "removed": self.removed}
        return {name: rows.height for name, rows in kinds.items()} | {"unchanged": self.unchanged}


@dataclass(frozen=True, slots=True)
class VersionDiff:
    """What became of the documents and chunks of one version in another."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    documents: Changes
    chunks: Changes

    def as_json(self) -> dict[str, Any]:
        """Counts, and the keys of the documents that differ."""
        chunks = self.chunks.counts()
        del chunks["changed"]  # a chunk is its text: with another it is another
        return {
            "kb": self.after["kb"],
            "from": self.before["version"],
            "to": self.after["version"],
            "documents": self.documents.counts(),
            "chunks": chunks,
            "added": self.documents.added["key"].to_list(),
            "changed": self.documents.changed["key"].to_list(),
            "removed": self.documents.removed["key"].to_list(),
        }


def diff_versions(store: KbStore, before: Mapping[str, Any], after: Mapping[str, Any]) -> VersionDiff:
    """Compare the versions that two manifests describe; reads bodies only of chunks that may differ by a link."""
    old, new = _documents(store, before), _documents(store, after)
    return VersionDiff(before, after, _document_changes(old, new), _chunk_changes(store, before, after, old, new))


def change_feed(store: KbStore, diff: VersionDiff) -> Iterator[dict[str, Any]]:
    """One change a line: who applies them in order to the earlier version has the later one.

    Chunks go before their documents and come after them, so that nothing ever refers to what is not there.
    """
    chunks, documents = diff.chunks, diff.documents
    yield from _chunk_lines(store, diff.before, "removed", chunks.removed)
    yield from _document_lines(store, diff.before, "removed", documents.removed)
    yield from _document_lines(store, diff.after, "changed", documents.changed)
    yield from _document_lines(store, diff.after, "added", documents.added)
    yield from _chunk_lines(store, diff.after, "added", chunks.added)


def _documents(store: KbStore, manifest: Mapping[str, Any]) -> pl.DataFrame:
    columns = ["document_id", "source", "key", "document_hash"]
    return open_table(store, manifest, "documents").read_columns(columns, KEPT, row_ids=True)


def _document_changes(old: pl.DataFrame, new: pl.DataFrame) -> Changes:
    import polars as pl

    both = new.join(old, on="document_id", suffix="_old")
    changed = both.filter(pl.col("document_hash") != pl.col("document_hash_old"))
    return Changes(
        added=_in_order(new.join(old, on="document_id", how="anti")),
        changed=_in_order(changed),
        removed=_in_order(old.join(new, on="document_id", how="anti")),
        unchanged=both.height - changed.height,
    )


def _chunk_changes(
    store: KbStore,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    old_documents: pl.DataFrame,
    new_documents: pl.DataFrame,
) -> Changes:
    import polars as pl

    columns = ["chunk_id", "document_id", "document_hash", "start", "end"]
    old_table, new_table = open_table(store, before, "chunks"), open_table(store, after, "chunks")
    old, new = (table.read_columns(columns, row_ids=True) for table in (old_table, new_table))
    both = new.join(old, on="chunk_id", suffix="_old")
    suspects = both.filter(pl.col("document_hash") != pl.col("document_hash_old"))
    rewritten = suspects.filter(pl.Series(_texts_differ(old_table, new_table, suspects), dtype=pl.Boolean))
    kept = both.join(rewritten, on="chunk_id", how="anti")
    return Changes(
        added=_in_order(_with_keys(new.join(kept, on="chunk_id", how="anti"), new_documents)),
        changed=new.clear(),
        removed=_in_order(_with_keys(old.join(kept, on="chunk_id", how="anti"), old_documents)),
        unchanged=kept.height,
    )


def _texts_differ(old: LanceTable, new: LanceTable, suspects: pl.DataFrame) -> list[bool]:
    """Whether chunks of one id have other texts: an id does not tell the target of a link, which nobody searches."""
    differ: list[bool] = []
    for part in suspects.iter_slices(_BATCH):
        before = _texts(old, part["_rowid_old"].to_list())
        differ += [was != now for was, now in zip(before, _texts(new, part["_rowid"].to_list()), strict=True)]
    return differ


def _texts(table: LanceTable, row_ids: Sequence[int]) -> list[str]:
    return [text for rows in table.take(row_ids, ["text"], _BATCH) for text in rows["text"].to_pylist()]


def _with_keys(chunks: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    return chunks.join(documents.select("document_id", "source", "key"), on="document_id", how="left")


def _in_order(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort([name for name in _PLACE if name in rows.columns])


def _document_lines(
    store: KbStore, manifest: Mapping[str, Any], change: str, rows: pl.DataFrame
) -> Iterator[dict[str, Any]]:
    columns = ["document_id", "source", "key", "title", "raw_sha256"]
    for row in _rows(open_table(store, manifest, "documents"), rows, columns):
        sha256 = row.pop("raw_sha256")
        yield {"kind": "document", "change": change, **row, "sha256": sha256}


def _chunk_lines(
    store: KbStore, manifest: Mapping[str, Any], change: str, rows: pl.DataFrame
) -> Iterator[dict[str, Any]]:
    columns = ["chunk_id", "document_id", "key", "start", "end"]
    wanted = [*columns, "text"] if change == "added" else columns
    for row in _rows(open_table(store, manifest, "chunks"), rows, wanted):
        yield {"kind": "chunk", "change": change, **row}


def _rows(table: LanceTable, rows: pl.DataFrame, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for part in rows.iter_slices(_BATCH):
        for batch in table.take(part["_rowid"].to_list(), columns, _BATCH):
            yield from batch.to_pylist()
