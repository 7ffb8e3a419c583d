"""Lists the documents of a version a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kb_pipeline.errors import UsageError
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.model import Record
from kb_pipeline.store.stage_tables import kept_documents
from kb_pipeline.store.table import sql_in

MAX_PAGE = 1000


@dataclass(frozen=True, slots=True)
class DocumentEntry(Record):
    """A document of a version, as a page of the list shows it."""

    document_id: str
    source: str
    key: str
    title: str
    language: str
    raw_sha256: str
    """Of the exact bytes that it was made from."""
    fetched_at: datetime
    run_id: str
    """The run that made it."""


@dataclass(frozen=True, slots=True)
class DocumentPage(Record):
    """Some documents of a version, by id."""

    version: int
    documents: tuple[DocumentEntry, ...]
    total: int
    """Of the whole version."""
    after: str | None
    """The last id, if there are more."""


def page_documents(version: VersionReader, after: str, limit: int) -> DocumentPage:
    """Return the documents whose ids come after `after`, at most `limit`; raises UsageError or DamagedStore.

    Ids are read of all, everything else of one page only: a page of 100,000 documents takes some milliseconds.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise UsageError(f"limit is {limit}; allowed are 1 to {MAX_PAGE:,}")
    table = version.table("documents")
    kept = kept_documents(table.schema.names)
    ids = table.read_columns(["document_id"], kept)["document_id"].sort()
    begin = int(ids.search_sorted(after, side="right"))
    chosen = ids[begin : begin + limit].to_list()
    rows = table.rows(DocumentEntry, sql_in("document_id", chosen)) if chosen else []
    is_last = begin + limit >= len(ids)
    documents = tuple(sorted(rows, key=lambda row: row.document_id))
    return DocumentPage(version.number, documents, len(ids), None if is_last else chosen[-1])
