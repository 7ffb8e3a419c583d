"""Brings the index table of a model up to the chunks: rows, vectors and indexes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kb_pipeline.errors import DamagedStore
from kb_pipeline.index.reader import VECTOR_INDEX_FROM_ROWS
from kb_pipeline.model import ReportProgress
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.stage_tables import CHUNKS, INDEX_PREFIX
from kb_pipeline.store.table import LanceTable

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

TEXT_COLUMNS = ("context", "words")
"""Columns with a full-text index: what names a chunk, and its words without the targets of its links."""
_BATCH = 1024
_FROM_CHUNKS = (
    "chunk_id", "document_id", "source", "key", "title", "language", "headings", "ordinal", "start", "end", "text",
    "words", "text_hash", "document_hash",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class IndexChange:
    """What building did to the index table."""

    added: int
    deleted: int
    rows: int


def index_name(model_fingerprint: str) -> str:
    """Return the name of a model's index table; another model's is built beside the live one."""
    return f"{INDEX_PREFIX}{model_fingerprint[:16]}"


def index_schema(dimension: int) -> pa.Schema:
    """Return the columns of an index table: one row a chunk, with its place, its words and its vector."""
    import pyarrow as pa

    strings = [
        "document_id",
        "source",
        "key",
        "title",
        "language",
        "context",
        "text",
        "words",
        "text_hash",
        "document_hash",
    ]
    return pa.schema(
        [
            pa.field("chunk_id", pa.string(), nullable=False),
            *(pa.field(name, pa.string()) for name in strings),
            ("headings", pa.list_(pa.string())),
            ("ordinal", pa.int32()),
            ("start", pa.int32()),
            ("end", pa.int32()),
            pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False),
        ]
    )


def build_index(store: KbStore, index: LanceTable, vectors: LanceTable, progress: ReportProgress) -> IndexChange:
    """Delete the chunks that are gone, add the new ones with their vectors, leave no row unindexed.

    Raises:
        DamagedStore: a table cannot be read, or a chunk has no vector.
    """
    chunks = store.tables.open(CHUNKS)
    wanted = chunks.read_columns(["chunk_id", "document_hash", "text_hash"], row_ids=True)
    have = index.require_unique(index.read_columns(["chunk_id", "document_hash"]))
    new = wanted.join(have, on=["chunk_id", "document_hash"], how="anti")
    gone = have.join(wanted, on=["chunk_id", "document_hash"], how="anti")["chunk_id"].to_list()
    progress(0, new.height)
    index.delete("chunk_id", gone)
    if not new.is_empty():
        rows = _rows(chunks, index, vectors, _with_vectors(new, vectors), progress)
        index.append_many(rows, wanted.height)
    # Not only after a change: a run that was killed may have put rows in and not have indexed them.
    if gone or not new.is_empty() or index.indexes.unindexed_rows() or not has_every_index(index, wanted.height):
        _update_indexes(index, wanted.height)
    return IndexChange(new.height, len(gone), wanted.height)


def remake_indexes(index: LanceTable) -> None:
    """Make every index anew from the rows that are there, so that none remembers another."""
    rows = index.count()
    if not rows:
        index.indexes.drop()
    for column in index.indexes.columns():
        if column in TEXT_COLUMNS:
            index.indexes.create_text_index(column)
        else:
            index.indexes.create_vector_index(column, rows)


def _with_vectors(new: pl.DataFrame, vectors: LanceTable) -> pl.DataFrame:
    """Find each new chunk's row in the cache of vectors."""
    places = vectors.read_columns(["text_hash"], row_ids=True).unique("text_hash").rename({"_rowid": "vector_row"})
    found = new.join(places, on="text_hash", how="left", maintain_order="left")
    if lacking := found["vector_row"].null_count():
        raise DamagedStore(str(vectors.path), f"{lacking} chunks have no vector; materialize embeddings first")
    return found


def _rows(
    chunks: LanceTable, index: LanceTable, vectors: LanceTable, new: pl.DataFrame, progress: ReportProgress
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    done = 0
    for part in new.iter_slices(_BATCH):
        (rows,) = chunks.take(part["_rowid"].to_list(), _FROM_CHUNKS, part.height)
        # A text that occurs twice has one vector: ask for it once.
        places = part["vector_row"].unique(maintain_order=True)
        (found,) = vectors.take(places.to_list(), ["vector"], len(places))
        position = {row: n for n, row in enumerate(places)}
        column = found["vector"].combine_chunks().take(pa.array([position[row] for row in part["vector_row"]]))
        table = rows.append_column("context", _contexts(rows)).append_column("vector", column)
        yield from table.select(index.schema.names).cast(index.schema).combine_chunks().to_batches()
        done += part.height
        progress(done, new.height)


def _contexts(rows: pa.Table) -> pa.Array:
    """Join title and headings to one line: words that name a chunk, weighted above those in it."""
    import pyarrow as pa

    pairs = zip(rows["title"].to_pylist(), rows["headings"].to_pylist(), strict=True)
    return pa.array([" / ".join(dict.fromkeys([title, *headings])) for title, headings in pairs])


def has_every_index(index: LanceTable, rows: int) -> bool:
    """Whether a table of so many rows has all the indexes that it should."""
    wanted = {*TEXT_COLUMNS, *(["vector"] if rows >= VECTOR_INDEX_FROM_ROWS else [])} if rows else set()
    return wanted <= index.indexes.columns()


def _update_indexes(index: LanceTable, rows: int) -> None:
    present = index.indexes.columns()
    for column in TEXT_COLUMNS:
        if rows and column not in present:
            index.indexes.create_text_index(column)  # never on an empty table: it would find nothing later
    if rows >= VECTOR_INDEX_FROM_ROWS and "vector" not in present:
        index.indexes.create_vector_index("vector", rows)
    index.optimize()
