"""Reads the chunks that a document of a version was split into."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kb_pipeline.errors import UnknownDocument
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
    """Return a document's chunks from its beginning to its end; none for one that others stand for.

    Raises:
        UnknownDocument: the version has no such document.
        DamagedStore: the table cannot be read.
    """
    is_its = sql_in("document_id", [document_id])
    rows = version.table("chunks").rows(StoredChunk, is_its)
    if not rows and not version.table("documents").count(f"{is_its} AND outcome = 'document'"):
        raise UnknownDocument(version.key, document_id)
    return [replace(row, headings=tuple(row.headings)) for row in sorted(rows, key=lambda row: (row.start, row.end))]
