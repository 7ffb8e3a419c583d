"""The stage `embed`: gives every distinct chunk text that has none a vector in the tenant's cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from kb_pipeline.embed.texts import Embedder, embed_distinct
from kb_pipeline.model import EmbeddingModel, ReportProgress, StageReport
from kb_pipeline.tables import CHUNKS, KbStore, LanceTable

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

VECTORS_PREFIX = "model_"
"""Every cache table's name begins with it."""
_BATCH = 256
"""Texts a commit, some seconds of work: what a killed run has to embed again at most."""


def vectors_schema(dimension: int) -> pa.Schema:
    """One row a distinct text."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("text_hash", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False),
        ]
    )


def vectors_name(model_fingerprint: str) -> str:
    """The cache table of a model."""
    return f"{VECTORS_PREFIX}{model_fingerprint[:16]}"


def vectors_table(store: KbStore, model: EmbeddingModel) -> LanceTable:
    """The tenant's cache of one model."""
    return store.vectors.open_or_create(vectors_name(model.fingerprint), vectors_schema(model.dimension))


def refresh_vectors(
    store: KbStore,
    model: EmbeddingModel,
    open_model: Callable[[], Embedder],
    text_of: Callable[[str, list[str], str], str],
    progress: ReportProgress,
) -> StageReport:
    """Embed what the cache lacks.

    Args:
        store: the KB.
        model: its fingerprint, with the text's hash, is the cache's key.
        open_model: opens it; not called when there is nothing to embed.
        text_of: what is embedded of a chunk: (title, headings, text) to one string.
        progress: told of distinct texts.
    """
    report, started = StageReport("embed"), time.monotonic()
    chunks = store.tables.open(CHUNKS)
    cache = vectors_table(store, model)
    texts = chunks.narrow(["text_hash", "tokens"], row_ids=True).unique("text_hash", maintain_order=True)
    missing = texts.join(cache.narrow(["text_hash"]), on="text_hash", how="anti")
    report.entered = report.passed = texts.height
    report.unchanged = texts.height - missing.height
    if not missing.is_empty():
        _embed(chunks, cache, missing, open_model(), text_of, progress)
    report.seconds = time.monotonic() - started
    report.extra["embedded"] = missing.height
    report.extra["tokens"] = int(missing["tokens"].sum())
    return report


def _embed(
    chunks: LanceTable,
    cache: LanceTable,
    missing: pl.DataFrame,
    embedder: Embedder,
    text_of: Callable[[str, list[str], str], str],
    progress: ReportProgress,
) -> None:
    import pyarrow as pa

    # Sorted by length over the whole KB: a batch is padded to its longest text only.
    row_ids = missing.sort("tokens")["_rowid"].to_list()
    done = 0
    progress(0, len(row_ids))
    for hashes, vectors in embed_distinct(_texts(chunks, row_ids, text_of), embedder, _BATCH):
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), embedder.dimension)
        cache.append([pa.RecordBatch.from_arrays([pa.array(hashes), column], schema=cache.schema)])
        done += len(hashes)
        progress(done, len(row_ids))
    cache.optimize()


def _texts(
    chunks: LanceTable, row_ids: list[int], text_of: Callable[[str, list[str], str], str]
) -> Iterator[tuple[str, str]]:
    for table in chunks.take(row_ids, ["text_hash", "title", "headings", "text"], _BATCH):
        for row in table.to_pylist():
            yield row["text_hash"], text_of(row["title"], row["headings"], row["text"])
