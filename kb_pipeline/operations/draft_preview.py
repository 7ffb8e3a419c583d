"""Shows what becomes of a few real pages of a draft: the stages of a refresh, over a store that is thrown away."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kb_pipeline.chunk.refresh import refresh_chunks
from kb_pipeline.clean.refresh import refresh_documents
from kb_pipeline.control.coordination.host_limits import SharedHostScheduler
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.flags.provider import read_flags
from kb_pipeline.control.kbs.drafts import DraftRecord
from kb_pipeline.embed.tokenizer import open_tokenizer
from kb_pipeline.errors import UsageError
from kb_pipeline.fetch.refresh import failed_pages, refresh_pages
from kb_pipeline.model import Record, StageReport
from kb_pipeline.operations.apply import check_files
from kb_pipeline.operations.authorization import Caller
from kb_pipeline.operations.drafts import text_of
from kb_pipeline.operations.source_rules import open_sources
from kb_pipeline.operations.stage_rules import StageRules
from kb_pipeline.settings import Settings
from kb_pipeline.spec.kb_file import KbSpec
from kb_pipeline.spec.sources import Source, WebSource
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import CHUNKS, DOCUMENTS

MAX_PAGES = 10
"""Of each source."""
MAX_SOURCES = 5
_OWN_LIMITS = ("max_pages", "max_files")
"""Reasons of keys that are left out because a preview looks at a few only."""


@dataclass(frozen=True, slots=True)
class PreviewChunk(Record):
    """A chunk, with its place in the document."""

    start: int
    end: int
    headings: tuple[str, ...]
    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class PreviewPage(Record):
    """What became of one page."""

    source: str
    key: str
    outcome: str
    """`document`, or `rejected` or `failed`, at fetching or cleaning."""
    reason: str | None
    """Why there is no document, or none of its own."""
    message: str | None
    title: str | None
    language: str | None
    markdown: str | None
    kept_words: int
    dropped_words: Mapping[str, int]
    """Words of the page that cleaning removed, by reason."""
    chunks: tuple[PreviewChunk, ...]


@dataclass(frozen=True, slots=True)
class DraftPreview(Record):
    """What became of a few pages of a draft."""

    pages: tuple[PreviewPage, ...]
    fetched_bytes: int
    fetch_seconds: float


def preview_draft(settings: Settings, db: Database, caller: Caller, draft: DraftRecord, pages: int = 3) -> DraftPreview:
    """Fetch a few pages of each source of a draft, politely and within the guards of a refresh, clean and chunk them.

    Each page is as a refresh publishes it, but for what is judged by comparing many: the template of a site and copies.

    Args:
        settings: of the installation.
        db: its control plane.
        caller: by whose rights sources are opened.
        draft: valid.
        pages: the most of each source.

    Raises:
        UsageError: pages is out of range, or there are too many sources.
        InvalidSpec, UnknownModel, QuotaExceeded: the draft is not valid.
        SourceFailed: no source gave anything.
    """
    if not 1 <= pages <= MAX_PAGES:
        raise UsageError(f"pages is {pages}; allowed is 1 to {MAX_PAGES}")
    (file,) = check_files(settings, db, caller, [text_of(draft)])
    if len(file.spec.sources) > MAX_SOURCES:
        raise UsageError(f"a draft of up to {MAX_SOURCES} sources can be previewed; this one has more")
    return preview_spec(settings, db, file.spec, pages, is_operator=caller.is_operator, client=f"draft-{draft.id}")


def preview_spec(
    settings: Settings, db: Database, spec: KbSpec, pages: int, *, is_operator: bool, client: str
) -> DraftPreview:
    """Run fetch, clean and chunk over a few pages of a valid spec; see `preview_draft`."""
    few = spec.model_copy(update={"sources": [_limited(source, pages) for source in spec.sources]})
    rules = StageRules(spec, read_flags(db, spec.key))
    with tempfile.TemporaryDirectory(prefix="kb-preview-") as folder:
        store = KbStore(KbPaths(Path(folder), spec.key))
        sources = open_sources(few, settings, (), is_operator=is_operator)
        fetched = refresh_pages(
            store, sources, client, _no_progress, lambda name: SharedHostScheduler(db, spec.tenant, f"{client} {name}")
        )
        refresh_documents(store, rules.cleaning, client, _no_progress)
        refresh_chunks(store, rules.chunking, open_tokenizer, _no_progress)
        return DraftPreview(tuple(_pages(store)), _bytes_of(fetched), fetched.seconds)


def _limited(source: Source, pages: int) -> Source:
    if isinstance(source, WebSource):
        return source.model_copy(update={"max_pages": pages, "sitemap": "off"})
    return source.model_copy(update={"max_files": pages})


def _pages(store: KbStore) -> list[PreviewPage]:
    columns = [
        "document_id", "source", "key", "outcome", "reason", "message", "title", "language", "markdown", "words",
        "duplicate_of", "left_out",
    ]  # fmt: skip
    shown = [_document(row, store) for row in store.tables.open(DOCUMENTS).read_columns(columns).iter_rows(named=True)]
    for row in failed_pages(store):
        if row["reason"] in _OWN_LIMITS:
            continue
        page = PreviewPage(
            row["source"], row["key"], row["outcome"], row["reason"], row["message"], None, None, None, 0, {}, ()
        )
        shown.append(page)
    return sorted(shown, key=lambda page: (page.source, page.key))


def _document(row: Mapping[str, Any], store: KbStore) -> PreviewPage:
    words = json.loads(row["words"]) if row["words"] else {}
    stands_aside = "duplicate" if row["duplicate_of"] else row["left_out"]
    return PreviewPage(
        source=row["source"],
        key=row["key"],
        outcome="rejected" if stands_aside else row["outcome"],
        reason=row["reason"] or stands_aside,
        message=row["message"],
        title=row["title"],
        language=row["language"],
        markdown=row["markdown"],
        kept_words=words.pop("kept", 0),
        dropped_words=words,
        chunks=() if stands_aside else tuple(_chunks(store, row["document_id"])),
    )


def _chunks(store: KbStore, document_id: str) -> list[PreviewChunk]:
    columns = ["ordinal", "start", "end", "headings", "text", "tokens"]
    rows = store.tables.open(CHUNKS).read_columns(columns, f"document_id = '{document_id}'").sort("ordinal")
    return [
        PreviewChunk(row["start"], row["end"], tuple(row["headings"]), row["text"], row["tokens"])
        for row in rows.iter_rows(named=True)
    ]


def _bytes_of(report: StageReport) -> int:
    return int(report.extra.get("body_bytes", 0))


def _no_progress(done: int, total: int | None) -> None:
    """No-op."""
