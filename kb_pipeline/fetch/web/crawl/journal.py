"""The rows that a crawl writes to its journal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kb_pipeline.fetch import journal as journals
from kb_pipeline.fetch.journal import RowFormat

if TYPE_CHECKING:
    import pyarrow as pa


class Row(msgspec.Struct, array_like=True):
    """The outcome of one URL."""

    key: str
    """The canonical URL."""
    url: str
    """The URL that the response came from."""
    outcome: str
    """fetched, unchanged, redirected, rejected or failed."""
    fetched_at: datetime
    depth: int
    attempts: int = 0
    """Requests made for it."""
    reason: str | None = None
    message: str | None = None
    status: int | None = None
    redirect_to: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    content_type: str | None = None
    sha256: str | None = None
    body: bytes | None = None
    lastmod: str | None = None
    """The lastmod of the sitemap before it was requested, if that moment is past for certain."""
    consent: str | None = None
    """What the page, its headers and its robots.txt say about indexing and AI use; see usage_directives."""
    rendered: bool = False
    """Whether the body was rendered in a browser."""
    shell: bool | None = None
    """Whether the server sent a page that is empty without its scripts; None when it was not parsed."""
    links: tuple[str, ...] | None = None
    """Where a page that was read leads to; None when it was not read, and leads to where it did."""
    received: int = 0
    """Bytes of its decompressed body, kept or not."""
    is_news: bool | None = None
    """Whether a page that was read says something that no page before it said; see traps."""


@lru_cache(maxsize=1)
def schema() -> pa.Schema:
    """Return the schema of a segment."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("url", pa.string(), nullable=False),
            pa.field("outcome", pa.string(), nullable=False),
            ("reason", pa.string()),
            ("message", pa.string()),
            ("status", pa.int16()),
            ("redirect_to", pa.string()),
            ("etag", pa.string()),
            ("last_modified", pa.string()),
            ("content_type", pa.string()),
            ("sha256", pa.string()),
            ("body", pa.binary()),
            pa.field("fetched_at", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("depth", pa.int32(), nullable=False),
            pa.field("attempts", pa.int16(), nullable=False),
            ("lastmod", pa.string()),
            ("consent", pa.string()),
            ("rendered", pa.bool_()),
            ("shell", pa.bool_()),
            ("links", pa.list_(pa.string())),
            ("received", pa.int64()),
            ("is_news", pa.bool_()),
        ]
    )


ROWS = RowFormat(Row, schema)


class JournalWriter(journals.JournalWriter[Row]):
    """Appends what became of URLs."""

    def __init__(self, journal: Path) -> None:
        super().__init__(journal, ROWS)


def read_outcomes(journal: Path) -> pa.Table:
    """Return a pyarrow table of the last row of every URL, all columns but `body`."""
    return journals.read_outcomes(journal, schema())


def read_rows(journal: Path, outcomes: pa.Table | None = None) -> Iterator[dict[str, Any]]:
    """Yield the last row of every URL with its body; `outcomes` saves reading them again."""
    return journals.read_rows(journal, read_outcomes(journal) if outcomes is None else outcomes)
