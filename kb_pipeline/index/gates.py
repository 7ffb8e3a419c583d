"""The checks that a candidate version must pass, each read from the stored tables themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kb_pipeline.index.search import Hit
from kb_pipeline.spec import Publish
from kb_pipeline.tables import KbStore, LanceTable

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

_UNIT_TOLERANCE = 1e-3
_GOLDEN_DEPTH = 5
_SAMPLE = 16
_LEAST_COSINE = 0.99
"""bf16 and fp32 differ by less than 0.001; two different texts by more than 0.01."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One check and what it measured."""

    name: str
    passed: bool
    message: str
    holds: bool = False
    """True when a failure is a matter of judgement: the version is held for approval, not failed."""
    measured: dict[str, Any] = field(default_factory=dict)


GATES = {
    "has_documents": "At least one page gave a document.",
    "counts_reconcile": "Pages, documents, chunks and index rows add up: nothing was lost between two stages.",
    "keys_unique": "No page, document, chunk or index row occurs twice.",
    "columns_readable": "Every column of every row was read back from disk.",
    "vectors_valid": "Every vector is finite and of unit length.",
    "vectors_match": "The vectors of a sample of chunks are what the model gives for their texts.",
    "nothing_unindexed": "No row is outside the text and vector indexes.",
    "not_shrunk": "No larger share of the live documents vanished than publish.max_shrink allows.",
    "golden_queries": "The KB file's golden queries find what they should.",
}
"""Every gate, and what it makes sure of."""


def check_version(
    store: KbStore,
    tables: Mapping[str, Mapping[str, Any]],
    live: Mapping[str, Any] | None,
    rules: Publish,
    search: Callable[[str], list[Hit]],
    embed: Callable[[list[dict[str, Any]]], NDArray[np.float32]],
) -> Iterator[Gate]:
    """Run every gate over the pinned tables of a candidate.

    Args:
        store: the KB.
        tables: name and version of each table of the candidate.
        live: manifest of the live version, None for a first build.
        rules: the KB file's section `publish`.
        search: searches the candidate.
        embed: gives the vectors of chunks anew, from their title, headings and text.
    """
    opened = {role: store.tables.open(pin["name"], pin["version"]) for role, pin in tables.items()}
    documents = opened["documents"].narrow(["document_id", "outcome", "duplicate_of"])
    kept = _kept(documents)
    yield _has_documents(kept, documents)
    yield _counts_reconcile(opened, documents, kept)
    yield _keys_unique(opened)
    yield from _columns_readable_and_vectors_valid(opened)
    yield _vectors_match(opened["index"], embed)
    yield _nothing_unindexed(opened["index"])
    yield _not_shrunk(store, kept, live, rules.max_shrink)
    yield _golden_queries(rules, search)


def _kept(documents: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    return documents.filter((pl.col("outcome") == "document") & pl.col("duplicate_of").is_null())


def _has_documents(kept: pl.DataFrame, documents: pl.DataFrame) -> Gate:
    rejected = documents.height - kept.height
    message = f"{kept.height} documents" + (f", {rejected} pages rejected or failed" if rejected else "")
    if kept.is_empty():
        message = f"no page gave a document ({rejected} rejected); see: kb failures"
    return Gate("has_documents", not kept.is_empty(), message, measured={"documents": kept.height})


def _counts_reconcile(opened: Mapping[str, LanceTable], documents: pl.DataFrame, kept: pl.DataFrame) -> Gate:
    """Every page with bytes has one row in documents, every document has chunks, every chunk is in the index."""
    pages = opened["pages"].count("sha256 IS NOT NULL")
    chunk_rows = opened["chunks"].narrow(["chunk_id", "document_id"])
    index_rows = opened["index"].narrow(["chunk_id"])
    measured = {
        "pages_without_row": abs(pages - documents.height),
        "documents_without_chunks": kept.join(chunk_rows, on="document_id", how="anti").height,
        "chunks_without_document": chunk_rows.join(kept, on="document_id", how="anti").height,
        "chunks_not_in_index": chunk_rows.join(index_rows, on="chunk_id", how="anti").height,
        "index_rows_without_chunk": index_rows.join(chunk_rows, on="chunk_id", how="anti").height,
    }
    wrong = {name: count for name, count in measured.items() if count}
    message = f"{pages} pages, {kept.height} documents, {chunk_rows.height} chunks add up"
    return Gate("counts_reconcile", not wrong, str(wrong) if wrong else message, measured=measured)


def _keys_unique(opened: Mapping[str, LanceTable]) -> Gate:
    keys = {"pages": "page_id", "documents": "document_id", "chunks": "chunk_id", "index": "chunk_id"}
    frames = {role: opened[role].narrow([key])[key] for role, key in keys.items()}
    doubled = {role: len(ids) - ids.n_unique() for role, ids in frames.items()}
    wrong = {role: count for role, count in doubled.items() if count}
    message = f"doubled keys: {wrong}" if wrong else "no key occurs twice"
    return Gate("keys_unique", not wrong, message, measured=doubled)


def _columns_readable_and_vectors_valid(opened: Mapping[str, LanceTable]) -> Iterator[Gate]:
    """Read back every column of every row: a row count succeeds even on a file that is cut in half."""
    import pyarrow as pa

    rows, bad, unreadable = 0, 0, []
    for role in ("documents", "chunks", "index"):
        try:
            for batch in opened[role].stream(opened[role].schema.names):
                batch.validate(full=True)
                rows += batch.num_rows
                bad += _bad_vectors(batch) if role == "index" else 0
        except (OSError, RuntimeError, ValueError, pa.ArrowException) as error:
            unreadable.append(f"{role}: {error}")
    message = "; ".join(unreadable) or f"{rows} rows read back, every column"
    yield Gate("columns_readable", not unreadable, message, measured={"rows": rows})
    valid = not bad and not unreadable
    message = "every vector is finite and of unit length" if valid else f"{bad} vectors are not finite or not unit-norm"
    yield Gate("vectors_valid", valid, message, measured={"bad_vectors": bad})


def _bad_vectors(batch: Any) -> int:  # noqa: ANN401 - pyarrow has no types
    import numpy as np

    column = batch.column("vector")
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    norms = np.linalg.norm(vectors, axis=1)
    return int((~(np.abs(norms - 1) <= _UNIT_TOLERANCE)).sum())  # a NaN compares false: bad


def _vectors_match(index: LanceTable, embed: Callable[[list[dict[str, Any]]], NDArray[np.float32]]) -> Gate:
    """A vector beside the wrong text is valid by every other measure, and nothing is found by meaning any more."""
    import numpy as np

    row_ids = index.narrow(["chunk_id"], row_ids=True)["_rowid"]
    sample = row_ids.gather_every(max(1, len(row_ids) // _SAMPLE))[:_SAMPLE].to_list()
    rows = [row for part in index.take(sample, ["title", "headings", "text", "vector"]) for row in part.to_pylist()]
    if not rows:
        return Gate("vectors_match", passed=True, message="no chunks")
    stored = np.array([row["vector"] for row in rows], dtype=np.float32)
    least = float((stored * embed(rows)).sum(axis=1).min())
    message = f"least cosine of {len(rows)} chunks to a new embedding of their texts: {least:.4f}"
    return Gate("vectors_match", least >= _LEAST_COSINE, message, measured={"least_cosine": least})


def _nothing_unindexed(index: LanceTable) -> Gate:
    unindexed = index.unindexed_rows()
    message = f"{unindexed} rows are in no index" if unindexed else "every row is indexed"
    return Gate("nothing_unindexed", not unindexed, message, measured={"unindexed_rows": unindexed})


def _not_shrunk(store: KbStore, kept: pl.DataFrame, live: Mapping[str, Any] | None, max_shrink: float) -> Gate:
    if live is None:
        return Gate("not_shrunk", passed=True, message="first version", measured={"vanished_share": 0.0})
    pin = live["tables"]["documents"]
    before = _kept(store.tables.open(pin["name"], pin["version"]).narrow(["document_id", "outcome", "duplicate_of"]))
    vanished = before.join(kept, on="document_id", how="anti").height
    share = vanished / before.height if before.height else 0.0
    message = f"{vanished} of {before.height} documents vanished ({share:.0%}); allowed are {max_shrink:.0%}"
    return Gate("not_shrunk", share <= max_shrink, message, holds=True, measured={"vanished_share": share})


def _golden_queries(rules: Publish, search: Callable[[str], list[Hit]]) -> Gate:
    if not rules.queries:
        return Gate("golden_queries", passed=True, message="the KB file names no golden queries")
    missed = []
    for golden in rules.queries:
        hits = search(golden.query)[:_GOLDEN_DEPTH]
        if not any(golden.key == hit.key or (golden.text and golden.text in hit.text) for hit in hits):
            missed.append(golden.query)
    recall = 1 - len(missed) / len(rules.queries)
    message = f"recall@{_GOLDEN_DEPTH} {recall:.2f}, wanted {rules.min_recall:.2f}"
    if missed:
        message += f"; missed: {'; '.join(missed[:5])}"
    return Gate("golden_queries", recall >= rules.min_recall, message, holds=True, measured={"recall_at_5": recall})


def failed_gates(gates: Sequence[Gate]) -> list[str]:
    """What to tell people about the gates that failed."""
    return [f"{gate.name}: {gate.message}" for gate in gates if not gate.passed]
