"""The stage `chunk`: updates the `chunks` table from the `documents` table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from kb_pipeline.chunk.rules import ChunkingRules
from kb_pipeline.chunk.split import Tokenizer, chunk_document, embedding_text
from kb_pipeline.link_text import strip_link_targets
from kb_pipeline.model import ReportProgress, StageReport, digest
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.stage_tables import CHUNKS, DOCUMENTS, kept_documents
from kb_pipeline.store.table import LanceTable

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_COMMIT_DOCUMENTS = 250


def chunks_schema() -> pa.Schema:
    """Return the schema of `chunks`: one row a chunk, with the fields of its document that a search hit shows."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("chunk_id", pa.string(), nullable=False),
            pa.field("document_id", pa.string(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("key", pa.string(), nullable=False),
            ("title", pa.string()),
            ("language", pa.string()),
            ("headings", pa.list_(pa.string())),
            ("ordinal", pa.int32()),
            ("start", pa.int32()),
            ("end", pa.int32()),
            ("text", pa.string()),
            ("words", pa.string()),
            ("tokens", pa.int32()),
            ("text_hash", pa.string()),
            ("document_hash", pa.string()),
            ("rules", pa.string()),
        ]
    )


def refresh_chunks(
    store: KbStore,
    rules: ChunkingRules,
    open_tokenizer: Callable[[str], Tokenizer],
    progress: ReportProgress,
) -> StageReport:
    """Split the documents whose text or rules changed, and delete the chunks of those that are gone."""
    report, started = StageReport("chunk"), time.monotonic()
    fingerprint = rules.fingerprint()
    documents = store.tables.open(DOCUMENTS)
    chunks = store.tables.open_or_create(CHUNKS, chunks_schema())
    documents_now = documents.read_columns(
        ["document_id", "document_hash"], kept_documents(documents.schema.names), row_ids=True
    )
    rows = chunks.read_columns(["chunk_id", "document_id", "document_hash", "rules"])
    stored = chunks.require_unique(rows).drop("chunk_id").unique()
    stale, gone = _differences(documents_now, stored, fingerprint)
    chunks.delete("document_id", gone)
    if not stale.is_empty():  # opening a tokenizer with a vocabulary of 250,000 takes time
        _chunk(documents, chunks, stale, rules, open_tokenizer(rules.tokenizer), fingerprint, progress)
    report.entered = report.passed = documents_now.height
    report.unchanged, report.deleted = documents_now.height - stale.height, len(gone)
    report.extra["chunks"] = chunks.count()
    report.seconds = time.monotonic() - started
    return report


def _differences(documents_now: pl.DataFrame, stored: pl.DataFrame, fingerprint: str) -> tuple[pl.DataFrame, list[str]]:
    import polars as pl

    current = stored.filter(pl.col("rules") == fingerprint)
    stale = documents_now.join(current, on=["document_id", "document_hash"], how="anti")
    gone = stored.join(documents_now, on="document_id", how="anti")["document_id"].unique().to_list()
    return stale, gone


def _chunk(
    documents: LanceTable,
    chunks: LanceTable,
    stale: pl.DataFrame,
    rules: ChunkingRules,
    tokenizer: Tokenizer,
    fingerprint: str,
    progress: ReportProgress,
) -> None:
    done, is_first = 0, chunks.count() == 0
    progress(0, stale.height)
    columns = ["document_id", "source", "key", "title", "language", "markdown", "document_hash"]
    for batch in documents.take(stale["_rowid"].to_list(), columns, _COMMIT_DOCUMENTS):
        rows = [row for d in batch.to_pylist() for row in chunk_rows(d, rules, tokenizer, fingerprint)]
        _write(chunks, rows, batch["document_id"].to_pylist(), is_first)
        done += batch.num_rows
        progress(done, stale.height)


def chunk_rows(
    document: dict[str, Any], rules: ChunkingRules, tokenizer: Tokenizer, fingerprint: str
) -> Iterator[dict[str, Any]]:
    """Yield the rows of `chunks` for a row of `documents`."""
    inherited = {
        name: document[name] for name in ("document_id", "source", "key", "title", "language", "document_hash")
    }
    for chunk in chunk_document(document["markdown"], document["title"], rules, tokenizer):
        text_hash = digest("text", embedding_text(document["title"], chunk.headings, chunk.text))
        yield inherited | {
            "chunk_id": digest("chunk", document["document_id"], f"{chunk.start}:{chunk.end}", text_hash),
            "headings": list(chunk.headings),
            "ordinal": chunk.ordinal,
            "start": chunk.start,
            "end": chunk.end,
            "text": chunk.text,
            "words": strip_link_targets(chunk.text),
            "tokens": chunk.tokens,
            "text_hash": text_hash,
            "rules": fingerprint,
        }


def _write(chunks: LanceTable, rows: list[dict[str, Any]], document_ids: list[str], is_first: bool) -> None:
    import pyarrow as pa

    table = pa.Table.from_pylist(rows, schema=chunks_schema())
    if is_first:
        chunks.append(table.to_batches())
    else:  # one commit, so that neither a reader nor a crash leaves half of a document's chunks
        chunks.replace_group(table, "document_id", document_ids)
