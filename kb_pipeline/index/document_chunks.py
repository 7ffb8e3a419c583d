"""Reads the chunks that a document of a version was split into."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kb_pipeline.index.reader import VersionReader
from kb_pipeline.model import Record
from kb_pipeline.store.table import sql_in


@dataclass(frozen=True, slots=True)
class StoredChunk(Record):
    """A chunk of a document, with its place in the document's Markdown."""

    chunk_id: str
    document_id: str
    start: int
    """Offset of the first character."""
    end: int
    headings: tuple[str, ...]
    text: str


def chunks_of_document(version: VersionReader, document_id: str) -> list[StoredChunk]:
    """Return a document's chunks from its beginning to its end; none for one that is not there.

    Raises:
        DamagedStore: the table cannot be read.
    """
    rows = version.table("chunks").rows(StoredChunk, sql_in("document_id", [document_id]))
    return [replace(row, headings=tuple(row.headings)) for row in sorted(rows, key=lambda row: (row.start, row.end))]
