"""The stage `embed`: computes the vectors of chunk texts that the tenant's cache lacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from kb_pipeline.embed.protocol import Embedder, embed_distinct
from kb_pipeline.failpoints import failpoint
from kb_pipeline.model import EmbeddingModel, ReportProgress, StageReport, digest
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.stage_tables import CHUNKS, VECTORS_PREFIX
from kb_pipeline.store.table import LanceTable, sql_in

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_BATCH = 256
"""Texts a commit, some seconds of work: the most that has to be embedded again after a kill."""


class TokenAccount(Protocol):
    """Limits and records what is embedded: called before and after each batch."""

    def begin(self, unit: str, texts: Sequence[str], tokens: Sequence[int]) -> int:
        """Reserve a batch; return how many of its texts, from the first on, may be embedded, or raise QuotaExceeded."""

    def done(self, unit: str) -> None:
        """Record that the batch's vectors are stored."""


class Unmetered:
    """An account without a limit."""

    def begin(self, unit: str, texts: Sequence[str], tokens: Sequence[int]) -> int:
        """Return the number of texts: there is no limit."""
        return len(texts)

    def done(self, unit: str) -> None:
        """No-op."""


def vectors_schema(dimension: int) -> pa.Schema:
    """Return the schema of a cache table: one row a distinct text."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("text_hash", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False),
        ]
    )


def vectors_name(model_fingerprint: str) -> str:
    """Return the name of a model's cache table."""
    return f"{VECTORS_PREFIX}{model_fingerprint[:16]}"


def vectors_table(store: KbStore, model: EmbeddingModel) -> LanceTable:
    """Open the tenant's cache table of a model; create it if there is none."""
    return store.vectors.open_or_create(vectors_name(model.fingerprint), vectors_schema(model.dimension))


def refresh_vectors(
    store: KbStore,
    model: EmbeddingModel,
    open_model: Callable[[], Embedder],
    text_of: Callable[[str, list[str], str], str],
    progress: ReportProgress,
    account: TokenAccount = Unmetered(),  # noqa: B008 - has no state
) -> StageReport:
    """Embed the chunk texts that the cache lacks.

    Args:
        store: the KB's store.
        model: the embedding model; its fingerprint and the text's hash are the cache key.
        open_model: opens the model; not called when there is nothing to embed.
        text_of: returns the text to embed for the title, headings and text of a chunk.
        progress: called with the number of distinct texts embedded so far and in total.
        account: called before and after each batch.

    Raises:
        QuotaExceeded: the account allows no more texts; the vectors computed so far are kept.
    """
    report, started = StageReport("embed"), time.monotonic()
    chunks = store.tables.open(CHUNKS)
    cache = vectors_table(store, model)
    texts = chunks.read_columns(["text_hash", "tokens"], row_ids=True).unique("text_hash", maintain_order=True)
    missing = texts.join(cache.read_columns(["text_hash"]), on="text_hash", how="anti")
    report.entered = report.passed = texts.height
    report.unchanged = texts.height - missing.height
    if not missing.is_empty():
        _embed(chunks, cache, missing, open_model(), text_of, progress, model.fingerprint, account)
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
    fingerprint: str,
    account: TokenAccount,
) -> None:
    import pyarrow as pa

    # Sorted by length over the whole KB, since a batch is padded to its longest text.
    rows, done = missing.sort("tokens"), 0
    progress(0, rows.height)
    while done < rows.height:
        batch = rows.slice(done, _BATCH)
        texts = batch["text_hash"].to_list()
        # The cache's version is part of it: texts that were removed and are embedded again are another unit of work.
        unit = digest("embed", fingerprint, str(cache.version), *texts)
        allowed = account.begin(unit, texts, batch["tokens"].to_list())
        failpoint("embed.begun")
        row_ids = batch["_rowid"].to_list()[:allowed]
        for hashes, vectors in embed_distinct(_texts(chunks, row_ids, text_of), embedder, _BATCH):
            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), embedder.dimension)
            cache.append([pa.RecordBatch.from_arrays([pa.array(hashes), column], schema=cache.schema)])
        failpoint("embed.stored")
        account.done(unit)
        done += allowed
        progress(done, rows.height)
    cache.optimize()


def are_stored(store: KbStore, fingerprint: str, texts: Sequence[str]) -> bool:
    """Return whether the cache has a vector for each text hash; a batch is stored as a whole or not at all."""
    name = vectors_name(fingerprint)
    if not store.vectors.exists(name):
        return False
    return store.vectors.open(name).read_columns(["text_hash"], sql_in("text_hash", texts))[
        "text_hash"
    ].n_unique() == len(texts)


def _texts(
    chunks: LanceTable, row_ids: list[int], text_of: Callable[[str, list[str], str], str]
) -> Iterator[tuple[str, str]]:
    for table in chunks.take(row_ids, ["text_hash", "title", "headings", "text"], _BATCH):
        for row in table.to_pylist():
            yield row["text_hash"], text_of(row["title"], row["headings"], row["text"])
