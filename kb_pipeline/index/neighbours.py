"""Reads what stands before and after a hit in its document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import Hit
from kb_pipeline.model import Record
from kb_pipeline.store.table import sql_in

MAX_CONTEXT = 5
"""Chunks before a hit, and after it."""


@dataclass(frozen=True, slots=True)
class Neighbours(Record):
    """The Markdown before and after a hit, none of which is the hit's own; empty at the ends of a document."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class _Span:
    document_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Text:
    document_id: str
    markdown: str


def neighbours_of(version: VersionReader, hits: Sequence[Hit], chunks: int) -> list[Neighbours]:
    """Return the neighbours of each hit, in order, with one query a table, however many hits.

    Args:
        version: that the hits are of.
        hits: whose neighbours.
        chunks: how many before, and how many after.
    """
    ids = sorted({hit.document_id for hit in hits})
    if not ids:
        return []
    of_documents = sql_in("document_id", ids)
    texts = {row.document_id: row.markdown for row in version.table("documents").rows(_Text, of_documents)}
    spans: dict[str, list[_Span]] = {}
    for span in sorted(version.table("index").rows(_Span, of_documents), key=lambda row: row.start):
        spans.setdefault(span.document_id, []).append(span)
    return [_neighbours(texts[hit.document_id], spans[hit.document_id], hit, chunks) for hit in hits]


def _neighbours(markdown: str, spans: Sequence[_Span], hit: Hit, chunks: int) -> Neighbours:
    place = [span.start for span in spans].index(hit.start)
    first, last = spans[max(0, place - chunks)], spans[min(len(spans) - 1, place + chunks)]
    # From the document rather than from the chunks: they overlap, and leave out the white space between them.
    return Neighbours(markdown[first.start : hit.start].strip(), markdown[hit.end : max(last.end, hit.end)].strip())
