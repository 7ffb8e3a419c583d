"""Compares two versions of a KB: their documents and chunks, also as a feed that an outside index can follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kb_pipeline.index.reader import VersionReader
from kb_pipeline.model import JsonObject, Record
from kb_pipeline.store.stage_tables import kept_documents
from kb_pipeline.store.table import LanceTable

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_BATCH = 512
Change = Literal["added", "changed", "removed"]
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

    def as_json(self) -> JsonObject:
        """Return how many rows are of each kind."""
        kinds = {"added": self.added, "changed": self.changed, "removed": self.removed}
        return {name: rows.height for name, rows in kinds.items()} | {"unchanged": self.unchanged}


@dataclass(frozen=True, slots=True)
class VersionDiff:
    """What became of the documents and chunks of one version in another."""

    before: VersionReader
    after: VersionReader
    documents: Changes
    chunks: Changes

    def as_json(self) -> JsonObject:
        """Return counts, and the keys of the documents that differ."""
        chunks = self.chunks.as_json()
        del chunks["changed"]  # a chunk is its text: with another it is another
        return {
            "kb": str(self.after.key),
            "from": self.before.number,
            "to": self.after.number,
            "documents": self.documents.as_json(),
            "chunks": chunks,
            "added": self.documents.added["key"].to_list(),
            "changed": self.documents.changed["key"].to_list(),
            "removed": self.documents.removed["key"].to_list(),
        }


@dataclass(frozen=True, slots=True)
class ChangedDocument(Record):
    """A document that one version added, changed or removed, by its names alone."""

    change: Change
    document_id: str
    key: str


@dataclass(frozen=True, slots=True)
class DocumentChanges:
    """What became of the documents of one version in another: removed, changed and added ones, each kind by key."""

    before: int
    after: int
    changes: tuple[ChangedDocument, ...]


@dataclass(frozen=True, slots=True)
class DocumentChange(Record):
    """A document that one version added, changed or removed."""

    change: Change
    document_id: str
    source: str
    key: str
    title: str
    sha256: str

    def as_json(self) -> JsonObject:
        """Return the change as a line of the feed."""
        return {"kind": "document", **Record.as_json(self)}


@dataclass(frozen=True, slots=True)
class ChunkChange(Record):
    """A chunk that one version added or removed."""

    change: Change
    chunk_id: str
    document_id: str
    key: str
    start: int
    end: int
    text: str | None = None
    """Only of a chunk that was added."""

    def as_json(self) -> JsonObject:
        """Return the change as a line of the feed."""
        fields = Record.as_json(self)
        if self.text is None:
            del fields["text"]
        return {"kind": "chunk", **fields}


def diff_versions(before: VersionReader, after: VersionReader) -> VersionDiff:
    """Compare two versions of a KB; reads bodies only of chunks that may differ by a link."""
    old, new = _documents(before), _documents(after)
    return VersionDiff(before, after, _document_changes(old, new), _chunk_changes(before, after, old, new))


def diff_documents(before: VersionReader, after: VersionReader) -> Changes:
    """Compare the documents of two versions by their hashes alone, which reads no text."""
    return _document_changes(_documents(before), _documents(after))


def list_document_changes(before: VersionReader, after: VersionReader) -> DocumentChanges:
    """List the documents that differ between two versions, in the order of the feed."""
    found = diff_documents(before, after)
    kinds: tuple[tuple[Change, pl.DataFrame], ...] = (
        ("removed", found.removed), ("changed", found.changed), ("added", found.added)
    )  # fmt: skip
    return DocumentChanges(
        before.number,
        after.number,
        tuple(
            ChangedDocument(change, *row)
            for change, rows in kinds
            for row in rows.select("document_id", "key").iter_rows()
        ),
    )


def change_feed(diff: VersionDiff) -> Iterator[DocumentChange | ChunkChange]:
    """Yield one change after the other: whoever applies them in order to the earlier version has the later one.

    Chunks go before their documents and come after them, so that nothing ever refers to what is not there.
    """
    chunks, documents = diff.chunks, diff.documents
    yield from _chunk_lines(diff.before, "removed", chunks.removed)
    yield from _document_lines(diff.before, "removed", documents.removed)
    yield from _document_lines(diff.after, "changed", documents.changed)
    yield from _document_lines(diff.after, "added", documents.added)
    yield from _chunk_lines(diff.after, "added", chunks.added)


def _documents(version: VersionReader) -> pl.DataFrame:
    columns = ["document_id", "source", "key", "document_hash"]
    table = version.table("documents")
    return table.read_columns(columns, kept_documents(table.schema.names), row_ids=True)


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
    before: VersionReader, after: VersionReader, old_documents: pl.DataFrame, new_documents: pl.DataFrame
) -> Changes:
    import polars as pl

    columns = ["chunk_id", "document_id", "document_hash", "start", "end"]
    old_table, new_table = before.table("chunks"), after.table("chunks")
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


def _document_lines(version: VersionReader, change: Change, rows: pl.DataFrame) -> Iterator[DocumentChange]:
    columns = ["document_id", "source", "key", "title", "raw_sha256"]
    for part in _take(version.table("documents"), rows, columns):
        for row in part.rename_columns({"raw_sha256": "sha256"}).to_pylist():
            yield DocumentChange(change, **row)


def _chunk_lines(version: VersionReader, change: Change, rows: pl.DataFrame) -> Iterator[ChunkChange]:
    columns = ["chunk_id", "document_id", "key", "start", "end"]
    wanted = [*columns, "text"] if change == "added" else columns
    for part in _take(version.table("chunks"), rows, wanted):
        for row in part.to_pylist():
            yield ChunkChange(change, **row)


def _take(table: LanceTable, rows: pl.DataFrame, columns: Sequence[str]) -> Iterator[pa.Table]:
    for part in rows.iter_slices(_BATCH):
        yield from table.take(part["_rowid"].to_list(), columns, _BATCH)
