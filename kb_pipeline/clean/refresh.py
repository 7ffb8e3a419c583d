"""The stage `clean`: updates the `documents` table from the raw bytes that the `pages` table names."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.clean.simhash import MAX_HAMMING_DISTANCE
from kb_pipeline.clean.worker_pool import clean_documents
from kb_pipeline.model import (
    Document,
    RawDocument,
    Rejected,
    ReportProgress,
    StageReport,
    digest,
    document_id,
)
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.raw_segments import read_bodies
from kb_pipeline.store.stage_tables import DOCUMENTS, PAGES
from kb_pipeline.store.table import LanceTable

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_DOCUMENTS_PER_WORKER = 50
_COMMIT_ROWS = 500
"""Documents a commit: the most that has to be cleaned again after a kill."""


def documents_schema() -> pa.Schema:
    """Return the schema of `documents`: one row for every raw document with bytes, a document or why there is none."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("document_id", pa.string(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("key", pa.string(), nullable=False),
            pa.field("outcome", pa.string(), nullable=False),  # document | rejected | failed
            ("reason", pa.string()),
            ("message", pa.string()),
            ("title", pa.string()),
            ("language", pa.string()),
            ("markdown", pa.string()),
            ("canonical_url", pa.string()),
            ("published", pa.string()),
            ("modified", pa.string()),
            ("content_sha256", pa.string()),
            ("document_hash", pa.string()),
            ("duplicate_of", pa.string()),
            ("raw_sha256", pa.string()),
            ("rules", pa.string()),
            ("fetched_at", pa.timestamp("us", tz="UTC")),
            ("run_id", pa.string()),
            ("translations", pa.string()),  # JSON: hreflang to address
            ("sketch", pa.int64()),
        ]
    )


def refresh_documents(store: KbStore, rules: CleaningRules, run_id: str, progress: ReportProgress) -> StageReport:
    """Clean the raw documents whose bytes or rules changed, delete those that are gone, mark duplicates."""
    import polars as pl

    report, started = StageReport("clean"), time.monotonic()
    documents = store.tables.open_or_create(DOCUMENTS, documents_schema())
    pages = _pages_with_bytes(store)
    stored = documents.read_columns(["document_id", "raw_sha256", "rules", "outcome"])
    documents.require_unique(stored)
    stale = _stale(pages, stored, rules.fingerprint())
    good = set(stored.filter(pl.col("outcome") == "document")["document_id"])
    gone = stored.join(pages, on="document_id", how="anti")["document_id"].to_list()
    documents.delete("document_id", gone)
    report.deleted = len(gone)
    _clean(store, documents, stale, good, rules, run_id, progress)
    _mark_duplicates(documents)
    _count(report, documents, pages.height, stale.height)
    report.seconds = time.monotonic() - started
    return report


def failed_documents(store: KbStore) -> Iterator[dict[str, Any]]:
    """Yield the pages that gave no document, or whose newest bytes failed while an older document is kept."""
    import polars as pl

    columns = ["source", "key", "outcome", "reason", "message"]
    if store.tables.exists(DOCUMENTS):
        rows = store.tables.open(DOCUMENTS).read_columns(columns, "reason IS NOT NULL")
        yield from rows.with_columns(outcome=pl.col("outcome").replace("document", "failed")).iter_rows(named=True)


def _pages_with_bytes(store: KbStore) -> pl.DataFrame:
    columns = ["page_id", "source", "key", "sha256", "segment", "position"]
    return store.tables.open(PAGES).read_columns(columns, "sha256 IS NOT NULL").rename({"page_id": "document_id"})


def _stale(pages: pl.DataFrame, stored: pl.DataFrame, fingerprint: str) -> pl.DataFrame:
    """Return the pages to be cleaned: new bytes, changed rules, or a failure that may be temporary."""
    import polars as pl

    current = stored.filter((pl.col("rules") == fingerprint) & (pl.col("outcome") != "failed"))
    # Without a segment, the bytes were damaged: the document stays as it is until they are fetched again.
    return (
        pages.filter(pl.col("segment").is_not_null())
        .join(current, left_on=["document_id", "sha256"], right_on=["document_id", "raw_sha256"], how="anti")
        .sort("segment", "position")
    )


def _clean(
    store: KbStore,
    documents: LanceTable,
    stale: pl.DataFrame,
    good: set[str],
    rules: CleaningRules,
    run_id: str,
    progress: ReportProgress,
) -> None:
    fetched_at: dict[str, Any] = {}
    if stale.is_empty():
        return
    is_first = documents.count() == 0
    # Starting a worker takes as long as cleaning some fifty pages.
    sized_rules = replace(rules, workers=min(rules.workers, -(-stale.height // _DOCUMENTS_PER_WORKER)))
    cleaned = clean_documents(_raw_documents(store, stale, fetched_at), sized_rules)
    results = _with_progress(cleaned, stale.height, progress)
    for batch in _batches(results):
        kept = [result for result in batch if _is_kept(result, good)]
        written = [result for result in batch if not _is_kept(result, good)]
        rows = [_row(result, rules.fingerprint(), run_id, fetched_at) for result in written]
        _write(documents, rows, is_first)
        _note_failures(documents, kept)


def _with_progress(
    results: Iterator[Document | Rejected], total: int, progress: ReportProgress
) -> Iterator[Document | Rejected]:
    progress(0, total)
    for done, result in enumerate(results, start=1):
        yield result
        progress(done, total)


def _batches(results: Iterator[Document | Rejected]) -> Iterator[list[Document | Rejected]]:
    while batch := list(islice(results, _COMMIT_ROWS)):
        yield batch


def _is_kept(result: Document | Rejected, good: set[str]) -> bool:
    """Return whether a failure leaves the last good document in place, to be cleaned again at the next refresh."""
    return isinstance(result, Rejected) and result.failed and document_id(result.source, result.key) in good


def _note_failures(documents: LanceTable, kept: Sequence[Document | Rejected]) -> None:
    import pyarrow as pa

    rows = [
        {"document_id": document_id(r.source, r.key), "reason": r.reason, "message": r.message}
        for r in kept
        if isinstance(r, Rejected)
    ]
    if rows:
        documents.upsert(pa.Table.from_pylist(rows, schema=_some_columns("reason", "message")))


def _write(documents: LanceTable, rows: list[dict[str, Any]], is_first: bool) -> None:
    import pyarrow as pa

    if not rows:
        return
    table = pa.Table.from_pylist(rows, schema=documents_schema())
    if is_first:
        documents.append(table.to_batches())
    else:
        documents.upsert(table)


def _raw_documents(store: KbStore, stale: pl.DataFrame, fetched_at: dict[str, Any]) -> Iterator[RawDocument]:
    """Stream the raw documents to be cleaned, segment by segment, and add to `fetched_at` when each was fetched."""
    positions: dict[str, list[int]] = {}
    names: dict[tuple[str, int], tuple[str, str]] = {}
    for row in stale.iter_rows(named=True):
        positions.setdefault(row["segment"], []).append(row["position"])
        names[row["segment"], row["position"]] = row["source"], row["key"]
    for raw in read_bodies(store.paths.raw, positions):
        source, key = names[raw.segment, raw.position]
        fetched_at[document_id(source, key)] = raw.fetched_at
        yield RawDocument(
            source=source,
            key=key,
            url=raw.url,
            body=raw.body,
            sha256=raw.sha256,
            content_type=raw.content_type or "",
            fetched_at=raw.fetched_at,
        )


def _row(result: Document | Rejected, fingerprint: str, run_id: str, fetched_at: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "document_id": document_id(result.source, result.key),
        "source": result.source,
        "key": result.key,
        "raw_sha256": result.raw_sha256,
        "rules": fingerprint,
        "run_id": run_id,
    }
    row["fetched_at"] = fetched_at.pop(row["document_id"])
    if isinstance(result, Rejected):
        outcome = "failed" if result.failed else "rejected"
        return row | {"outcome": outcome, "reason": result.reason, "message": result.message}
    return row | {
        "outcome": "document",
        "title": result.title,
        "language": result.language,
        "markdown": result.markdown,
        "canonical_url": result.canonical_url,
        "published": result.published,
        "modified": result.modified,
        "translations": json.dumps(dict(result.translations)) if result.translations else None,
        "sketch": result.sketch,
        "content_sha256": digest("content", " ".join(result.markdown.split())),
        "document_hash": digest("document", result.title, result.language, result.markdown),
    }


def _mark_duplicates(documents: LanceTable) -> None:
    """Mark all but one of the documents with the same text as duplicates of that one; write only what changed.

    A document whose canonical URL is another document's key is also a duplicate of that one, if their texts are nearly
    equal. The canonical URL alone is not enough: some sites declare their home page as canonical on every page.
    """
    import polars as pl

    columns = ["document_id", "source", "key", "canonical_url", "content_sha256", "sketch", "duplicate_of"]
    rows = documents.read_columns(columns, "outcome = 'document'")
    is_canonical = (pl.col("canonical_url") == pl.col("key")).fill_null(value=False)
    is_named = pl.col("key").is_in(rows["canonical_url"].drop_nulls().unique().implode())
    # The page that declares itself canonical stays, else one that others declare so, else the one with the shortest
    # key, else the first by key: a choice that does not depend on the order of fetching.
    ranked = rows.sort(~is_canonical, ~is_named, pl.col("key").str.len_bytes(), pl.col("key"))
    first = ranked.with_columns(first=pl.col("document_id").first().over("content_sha256"))
    marked = first.join(_canonical_twins(first), on="document_id", how="left").with_columns(
        new=pl.coalesce("twin", pl.when(pl.col("first") != pl.col("document_id")).then("first"))
    )
    changed = marked.filter(~pl.col("new").eq_missing(pl.col("duplicate_of")))
    if not changed.is_empty():
        update = changed.select("document_id", pl.col("new").alias("duplicate_of"))
        documents.upsert(update.to_arrow().cast(_some_columns("duplicate_of")))


def _canonical_twins(rows: pl.DataFrame) -> pl.DataFrame:
    """Return `document_id` and `twin`: the document that it declares canonical and whose text is nearly equal."""
    import polars as pl

    declaring = rows.filter(pl.col("canonical_url") != pl.col("key"))
    target = rows.filter(pl.col("canonical_url").is_null() | (pl.col("canonical_url") == pl.col("key")))
    pairs = declaring.join(target, left_on=["source", "canonical_url"], right_on=["source", "key"], suffix="_target")
    differing = (pl.col("sketch") ^ pl.col("sketch_target")).bitwise_count_ones()
    similar = pairs.filter(
        (differing <= MAX_HAMMING_DISTANCE) & (pl.col("content_sha256") != pl.col("content_sha256_target"))
    )
    # The first of several documents with the same text gets the canonical one for all of them.
    heads = similar.filter(pl.col("first") == pl.col("document_id")).select("first", twin="first_target")
    heads = heads.filter(~pl.col("twin").is_in(heads["first"].implode()))  # no chains: a twin has no twin itself
    return rows.join(heads, on="first").select("document_id", "twin")


def _some_columns(*names: str) -> pa.Schema:
    import pyarrow as pa

    schema = documents_schema()
    return pa.schema([schema.field("document_id"), *(schema.field(name) for name in names)])


def _count(report: StageReport, documents: LanceTable, entered: int, worked: int) -> None:
    rows = documents.read_columns(["outcome", "reason", "duplicate_of", "language"])
    report.entered, report.unchanged = entered, 0
    languages: dict[str, int] = {}
    kept_old = 0
    for outcome, reason, duplicate_of, language in rows.iter_rows():
        if outcome == "failed":
            report.failed[reason] += 1
        elif outcome == "rejected":
            report.rejected[reason] += 1
        elif duplicate_of:
            report.rejected["duplicate"] += 1
        else:
            report.passed += 1
            kept_old += reason is not None
            languages[language] = languages.get(language, 0) + 1
    report.unchanged = entered - worked
    if kept_old:
        report.extra["kept_last_good"] = kept_old
    report.extra["languages"] = dict(sorted(languages.items(), key=lambda item: -item[1]))
