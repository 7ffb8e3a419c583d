"""The gates of a version, and those that look at it alone: whether its stored tables are whole and fit together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kb_pipeline.errors import DamagedStore
from kb_pipeline.index.build import TEXT_COLUMNS, index_name
from kb_pipeline.index.reader import VECTOR_INDEX_FROM_ROWS
from kb_pipeline.model import EmbeddingModel
from kb_pipeline.store.manifest import Counts, Manifest
from kb_pipeline.store.stage_tables import ROLES, STAGE_TABLES, STANDS_ASIDE
from kb_pipeline.store.table import LanceTable

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

_UNIT_TOLERANCE = 1e-3
_SAMPLE = 16
_LEAST_COSINE = 0.99
"""bf16 and fp32 differ by less than 0.001; two different texts by more than 0.01."""
_REMEMBERED = {
    "pages": ["page_id", "sha256"],
    "documents": ["document_id", "key", "outcome", *STANDS_ASIDE, "document_hash"],
    "chunks": ["chunk_id", "document_id"],
    "index": ["chunk_id", "document_hash"],
}
"""The narrow columns that the gates compare, kept from the one pass over everything."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One check and what it measured."""

    name: str
    passed: bool
    message: str
    holds: bool = False
    """True when a failure is a matter of judgement: the version is held for approval, not failed."""
    measured: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChunkText:
    """What is embedded of a chunk."""

    title: str
    headings: tuple[str, ...]
    text: str


GATES = {
    "has_documents": "At least one page gave a document.",
    "counts_reconcile": "Pages, documents, chunks and index rows add up, and to what the manifest says: nothing was "
    "lost between two stages.",
    "keys_unique": "No page, document, chunk or index row occurs twice.",
    "columns_readable": "Every column of every row was read back from disk.",
    "vectors_valid": "Every vector is finite and of unit length.",
    "model_matches": "The index table, its vectors' dimension and the manifest are of the KB file's embedding model.",
    "nothing_unindexed": "No row is outside the text and vector indexes, and no index is missing.",
    "vectors_match": "The vectors of a sample of chunks are what the model gives for their texts.",
    "not_shrunk": "No larger share of the live version's documents, or of the text of those that stay, vanished than "
    "publish.max_shrink allows.",
    "retrieval_kept": "Documents of the live version, asked for in their own words, are still found: recall@5 and MRR "
    "fell by no more than publish.max_drop.",
    "golden_queries": "The KB file's golden queries find what they should, and no worse than in the live version.",
    "nothing_resurrected": "Nothing comes back that was undone by a rollback.",
}
"""Every gate, and what it makes sure of."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What one pass over every column of a version's tables found."""

    frames: Mapping[str, pl.DataFrame]
    rows: int
    bad_vectors: int
    unreadable: tuple[str, ...]

    @property
    def kept(self) -> pl.DataFrame:
        """The documents that readers see."""
        import polars as pl

        documents = self.frames["documents"]
        stands_aside = [pl.col(name).is_not_null() for name in STANDS_ASIDE if name in documents.columns]
        return documents.filter((pl.col("outcome") == "document") & ~pl.any_horizontal(stands_aside))


def read_back(opened: Mapping[str, LanceTable]) -> Contents:
    """Read every column of every row: a row count succeeds even on a file that is cut in half."""
    import polars as pl
    import pyarrow as pa

    frames, rows, bad, unreadable = {}, 0, 0, []
    for role, columns in _REMEMBERED.items():
        table, parts = opened[role], []
        columns = [name for name in columns if name in table.schema.names]
        try:
            for batch in table.stream(table.schema.names):
                batch.validate(full=True)
                rows += batch.num_rows
                bad += _bad_vectors(batch) if role == "index" else 0
                parts.append(batch.select(columns))
        except (DamagedStore, OSError, RuntimeError, ValueError, pa.ArrowException) as error:
            unreadable.append(f"{role}: {error}")
        frames[role] = pl.DataFrame(pa.Table.from_batches(parts, pa.schema([table.schema.field(c) for c in columns])))
    return Contents(frames, rows, bad, tuple(unreadable))


def structural_gates(
    opened: Mapping[str, LanceTable], contents: Contents, manifest: Manifest, model: EmbeddingModel
) -> Iterator[Gate]:
    """Check whether a version is whole; a failure is never a matter of judgement.

    Args:
        opened: its tables, pinned.
        contents: what reading them back found.
        manifest: what it says of itself.
        model: what its vectors must be of.
    """
    yield _has_documents(contents)
    yield _counts_reconcile(contents, manifest.counts)
    yield _keys_unique(contents)
    yield _columns_readable(contents)
    yield _vectors_valid(contents)
    yield _model_matches(opened["index"], manifest, model)
    yield _nothing_unindexed(opened["index"], contents.frames["index"].height)


def _has_documents(contents: Contents) -> Gate:
    kept, rejected = contents.kept.height, contents.frames["documents"].height - contents.kept.height
    message = f"{kept} documents" + (f", {rejected} pages rejected or failed" if rejected else "")
    if not kept:
        message = f"no page gave a document ({rejected} rejected); see: kb failures"
    return Gate("has_documents", bool(kept), message, measured={"documents": kept})


def _counts_reconcile(contents: Contents, counts: Counts) -> Gate:
    """Check that every page with bytes has a row in documents, every document chunks, and every chunk an index row."""
    documents, chunks, index = (contents.frames[role] for role in ("documents", "chunks", "index"))
    pages, kept = contents.frames["pages"]["sha256"].count(), contents.kept
    measured = {
        "pages_without_row": abs(pages - documents.height),
        "documents_without_chunks": kept.join(chunks, on="document_id", how="anti").height,
        "chunks_without_document": chunks.join(kept, on="document_id", how="anti").height,
        "chunks_not_in_index": chunks.join(index, on="chunk_id", how="anti").height,
        "index_rows_without_chunk": index.join(chunks, on="chunk_id", how="anti").height,
        "documents_not_in_manifest": abs(kept.height - counts.documents),
        "chunks_not_in_manifest": abs(index.height - counts.chunks),
    }
    wrong = {name: count for name, count in measured.items() if count}
    message = f"{pages} pages, {kept.height} documents, {chunks.height} chunks add up"
    return Gate("counts_reconcile", not wrong, str(wrong) if wrong else message, measured=measured)


def _keys_unique(contents: Contents) -> Gate:
    ids = {role: contents.frames[role][STAGE_TABLES[role].key] for role in ROLES}
    doubled = {role: len(each) - each.n_unique() for role, each in ids.items()}
    wrong = {role: count for role, count in doubled.items() if count}
    message = f"doubled keys: {wrong}" if wrong else "no key occurs twice"
    return Gate("keys_unique", not wrong, message, measured=doubled)


def _columns_readable(contents: Contents) -> Gate:
    message = "; ".join(contents.unreadable) or f"{contents.rows} rows read back, every column"
    return Gate("columns_readable", not contents.unreadable, message, measured={"rows": contents.rows})


def _vectors_valid(contents: Contents) -> Gate:
    bad, valid = contents.bad_vectors, not contents.bad_vectors and not contents.unreadable
    message = "every vector is finite and of unit length" if valid else f"{bad} vectors are not finite or not unit-norm"
    return Gate("vectors_valid", valid, message, measured={"bad_vectors": bad})


def _bad_vectors(batch: pa.RecordBatch) -> int:
    import numpy as np

    column = batch.column("vector")
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    norms = np.linalg.norm(vectors, axis=1)
    return int((~(np.abs(norms - 1) <= _UNIT_TOLERANCE)).sum())  # a NaN compares false: bad


def _model_matches(index: LanceTable, manifest: Manifest, model: EmbeddingModel) -> Gate:
    stated = manifest.model
    found = {
        "table": (manifest.tables["index"].name, index_name(model.fingerprint)),
        "dimension of the vectors": (index.schema.field("vector").type.list_size, model.dimension),
        "manifest's model": (stated.name, model.name),
        "manifest's fingerprint": (stated.fingerprint, model.fingerprint),
        "manifest's dimension": (stated.dimension, model.dimension),
    }
    wrong = [f"{what} is {given}, not {wanted}" for what, (given, wanted) in found.items() if given != wanted]
    message = "; ".join(wrong) or f"{model.name}, {model.dimension} dimensions"
    return Gate("model_matches", not wrong, message, measured={"dimension": model.dimension})


def _nothing_unindexed(index: LanceTable, rows: int) -> Gate:
    wanted = {*TEXT_COLUMNS, *(["vector"] if rows >= VECTOR_INDEX_FROM_ROWS else [])} if rows else set()
    missing = sorted(wanted - index.indexes.columns())
    unindexed = rows if missing else index.indexes.unindexed_rows()
    message = f"{unindexed} rows are in no index" if unindexed else "every row is indexed"
    message += f": there is none of {', '.join(missing)}" if missing else ""
    return Gate("nothing_unindexed", not unindexed, message, measured={"unindexed_rows": unindexed})


def vectors_match(index: LanceTable, embed: Callable[[Sequence[ChunkText]], NDArray[np.float32]]) -> Gate:
    """Check that sampled vectors are those of their texts: swapped ones pass every other gate but break search."""
    import numpy as np

    row_ids = index.read_columns(["chunk_id"], row_ids=True)["_rowid"]
    sample = row_ids.gather_every(max(1, len(row_ids) // _SAMPLE))[:_SAMPLE].to_list()
    rows = [row for part in index.take(sample, ["title", "headings", "text", "vector"]) for row in part.to_pylist()]
    if not rows:
        return Gate("vectors_match", passed=True, message="no chunks")
    stored = np.array([row["vector"] for row in rows], dtype=np.float32)
    texts = [ChunkText(row["title"], tuple(row["headings"]), row["text"]) for row in rows]
    least = float((stored * embed(texts)).sum(axis=1).min())
    message = f"least cosine of {len(rows)} chunks to a new embedding of their texts: {least:.4f}"
    return Gate("vectors_match", least >= _LEAST_COSINE, message, measured={"least_cosine": least})


def failed_gates(gates: Sequence[Gate]) -> list[str]:
    """Return the message about the gates that failed."""
    return [f"{gate.name}: {gate.message}" for gate in gates if not gate.passed]
