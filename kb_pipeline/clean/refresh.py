"""The stage `clean`: updates the `documents` table from the raw bytes that the `pages` table names."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from kb_pipeline.clean.error_pages import fail_error_pages, fail_notices
from kb_pipeline.clean.fingerprints import hashes_of
from kb_pipeline.clean.html.stubs import SENT_ON
from kb_pipeline.clean.notices import REASONS as NOTICES
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.clean.site_template import cut_templates
from kb_pipeline.clean.standing import StandingAside
from kb_pipeline.clean.words import account_of_words
from kb_pipeline.clean.worker_pool import clean_documents
from kb_pipeline.model import (
    Document,
    RawDocument,
    Rejected,
    ReportProgress,
    StageReport,
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
            ("segments", pa.binary()),
            ("template", pa.int64()),
            ("signs", pa.string()),
            ("left_out", pa.string()),  # why a document is none of its own, if it is no copy
            ("view_of", pa.string()),
            ("judged", pa.string()),  # by which rules `duplicate_of`, `left_out` and `view_of` were found
            ("metadata", pa.string()),  # JSON: what structured data says, such as price and author
            ("words", pa.string()),  # JSON: how many words of the page are kept, and how many removed for which reason
            ("edges", pa.binary()),
            ("cut_blocks", pa.string()),  # how many the site's template has at both ends of the page: 2:1
            ("cut_text", pa.string()),  # JSON: their text
            ("failed_bytes", pa.string()),  # newer bytes, with the rules by which they gave no document
        ]
    )


def refresh_documents(store: KbStore, rules: CleaningRules, run_id: str, progress: ReportProgress) -> StageReport:
    """Clean the raw documents whose bytes or rules changed, delete those that are gone, mark copies and views."""
    import polars as pl

    report, started = StageReport("clean"), time.monotonic()
    documents = store.tables.open_or_create(DOCUMENTS, documents_schema())
    pages = _pages_with_bytes(store)
    stored = documents.read_columns(["document_id", "raw_sha256", "rules", "outcome", "reason", "failed_bytes"])
    documents.require_unique(stored)
    stale = _stale(pages, stored, rules.fingerprint())
    good = dict(stored.filter(pl.col("outcome") == "document").select("document_id", "raw_sha256").iter_rows())
    gone = stored.join(pages, on="document_id", how="anti")["document_id"].to_list()
    _clean(store, documents, stale, good, rules, run_id, progress)
    # Before they go: a run that is killed between the two finds them again, and judges again.
    cut_templates(documents, gone)
    StandingAside(documents, _start_keys(store), rules.keep_views).mark(gone)
    documents.delete("document_id", gone)
    report.deleted = len(gone)
    _count(report, documents, pages.height, stale.height)
    report.extra |= account_of_words(documents)
    report.seconds = time.monotonic() - started
    return report


def failed_documents(store: KbStore) -> Iterator[dict[str, Any]]:
    """Yield the pages that gave no document, or whose newest bytes failed while an older document is kept."""
    import polars as pl

    columns = ["source", "key", "outcome", "reason", "message"]
    if store.tables.exists(DOCUMENTS):
        rows = store.tables.open(DOCUMENTS).read_columns(columns, "reason IS NOT NULL")
        yield from rows.with_columns(outcome=pl.col("outcome").replace("document", "failed")).iter_rows(named=True)


def _start_keys(store: KbStore) -> set[str]:
    """Return the keys that people named: those of depth 0, where a source has depths."""
    pages = store.tables.open(PAGES)
    return set(pages.read_columns(["key"], "depth = 0")["key"]) if "depth" in pages.schema.names else set()


def _pages_with_bytes(store: KbStore) -> pl.DataFrame:
    columns = ["page_id", "source", "key", "sha256", "segment", "position"]
    return store.tables.open(PAGES).read_columns(columns, "sha256 IS NOT NULL").rename({"page_id": "document_id"})


def _stale(pages: pl.DataFrame, stored: pl.DataFrame, fingerprint: str) -> pl.DataFrame:
    """Return the pages to be cleaned: new bytes, changed rules, or a failure that may be temporary."""
    import polars as pl

    # Bytes that a document was kept from are not cleaned again as long as they stay the same; when they are those of
    # the document again, it is made anew, without the failure.
    failed = stored.select("document_id", sha256=pl.col("failed_bytes")).drop_nulls()
    is_current = (pl.col("rules") == fingerprint) & (pl.col("outcome") != "failed")
    current = stored.filter(is_current & ((pl.col("outcome") != "document") | pl.col("reason").is_null()))
    known = pages.with_columns(attempt=pl.format("{} {}", "sha256", pl.lit(fingerprint)))
    # Without a segment, the bytes were damaged: the document stays as it is until they are fetched again.
    return (
        known.filter(pl.col("segment").is_not_null())
        .join(current, left_on=["document_id", "sha256"], right_on=["document_id", "raw_sha256"], how="anti")
        .join(failed, left_on=["document_id", "attempt"], right_on=["document_id", "sha256"], how="anti")
        .drop("attempt")
        .sort("segment", "position")
    )


def _clean(
    store: KbStore,
    documents: LanceTable,
    stale: pl.DataFrame,
    good: Mapping[str, str],
    rules: CleaningRules,
    run_id: str,
    progress: ReportProgress,
) -> None:
    fetched_at: dict[str, Any] = {}
    if stale.is_empty():
        return
    is_first, starts = documents.count() == 0, _start_keys(store)
    # Starting a worker takes as long as cleaning some fifty pages.
    sized_rules = replace(rules, workers=min(rules.workers, -(-stale.height // _DOCUMENTS_PER_WORKER)))
    cleaned = clean_documents(_raw_documents(store, stale, fetched_at), sized_rules)
    results = _with_progress(cleaned, stale.height, progress)
    for batch in _batches(results):
        judged = fail_error_pages(fail_notices(batch, starts, rules.keep_views), documents, good)
        kept = [result for result in judged if _is_kept(result, good)]
        written = [result for result in judged if not _is_kept(result, good)]
        rows = [_row(result, rules.fingerprint(), run_id, fetched_at) for result in written]
        _write(documents, rows, is_first)
        _note_failures(documents, kept, rules.fingerprint())


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


def _is_kept(result: Document | Rejected, good: Mapping[str, str]) -> bool:
    """Return whether bytes that give no text leave the last good document in place.

    That the page says so ends it; so does a document that was made of these very bytes, which are now known to be none.
    """
    if not isinstance(result, Rejected) or result.reason == "noindex":
        return False
    before = good.get(document_id(result.source, result.key))
    return before is not None and not (before == result.raw_sha256 and result.reason in (*NOTICES, SENT_ON))


def _note_failures(documents: LanceTable, kept: Sequence[Document | Rejected], fingerprint: str) -> None:
    import pyarrow as pa

    rows = [
        {
            "document_id": document_id(r.source, r.key),
            "reason": r.reason,
            "message": r.message,
            "failed_bytes": None if r.failed else f"{r.raw_sha256} {fingerprint}",
        }
        for r in kept
        if isinstance(r, Rejected)
    ]
    if rows:
        documents.upsert(pa.Table.from_pylist(rows, schema=_some_columns("reason", "message", "failed_bytes")))


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
        "metadata": json.dumps(dict(result.metadata)) if result.metadata else None,
        "words": json.dumps(dict(result.words)) if result.words else None,
        "edges": result.edges or None,
        "sketch": result.sketch,
        "segments": result.segments,
        "template": result.template,
        "signs": " ".join(result.signs),
        **hashes_of(result.key, result.title, result.language, result.markdown),
    }


def _some_columns(*names: str) -> pa.Schema:
    import pyarrow as pa

    schema = documents_schema()
    return pa.schema([schema.field("document_id"), *(schema.field(name) for name in names)])


def _count(report: StageReport, documents: LanceTable, entered: int, worked: int) -> None:
    rows = documents.read_columns(["outcome", "reason", "duplicate_of", "left_out", "language"])
    report.entered, report.unchanged = entered, 0
    languages: dict[str, int] = {}
    kept_old = 0
    for outcome, reason, duplicate_of, left_out, language in rows.iter_rows():
        if outcome == "failed":
            report.failed[reason] += 1
        elif outcome == "rejected":
            report.rejected[reason] += 1
        elif left_out:
            report.rejected[left_out] += 1
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
