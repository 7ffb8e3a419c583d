"""Lists the documents of a version a page at a time by when their bytes were fetched, with the size of their text."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from kb_pipeline.errors import UnknownDocument, UsageError
from kb_pipeline.index.document_page import MAX_PAGE
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.model import Record
from kb_pipeline.store.stage_tables import kept_documents
from kb_pipeline.store.table import sql_in

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class TimedDocument(Record):
    """A document of a version, without its text."""

    document_id: str
    source: str
    key: str
    title: str
    language: str
    fetched_at: datetime
    text_bytes: int
    """Of its Markdown, in UTF-8."""


@dataclass(frozen=True, slots=True)
class TimedPage(Record):
    """Some documents of a version, in order."""

    version: int
    documents: tuple[TimedDocument, ...]
    has_more: bool
    """Whether there are others after them, or before them if what comes before a document was asked for."""


@dataclass(frozen=True, slots=True)
class _Row:
    document_id: str
    source: str
    key: str
    title: str
    language: str
    fetched_at: datetime
    markdown: str


def page_by_time(
    version: VersionReader, after: str | None, before: str | None, limit: int, newest_first: bool
) -> TimedPage:
    """Return the documents after one, or before one; ids and times are read of all, the rest of one page only.

    Raises:
        UnknownDocument: the version has no document of the id `after` or `before`.
        UsageError: limit is out of range.
        DamagedStore: the table cannot be read.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise UsageError(f"limit is {limit}; allowed are 1 to {MAX_PAGE:,}")
    ids = _ids_by_time(version, newest_first)
    begin, end = (None if each is None else _position(version, ids, each) for each in (after, before))
    chosen, has_more = between(ids, begin, end, limit)
    return TimedPage(version.number, _documents(version, chosen), has_more)


def between(items: list[_Item], after: int | None, before: int | None, limit: int) -> tuple[list[_Item], bool]:
    """Return the items of one page of a list, and whether there are others in the direction that is read.

    Args:
        items: all of them, in order.
        after: the place of the item after which the page begins; None for the first page.
        before: the place of the item before which it ends; alone, the page is the one right before that.
        limit: the most items of a page.
    """
    whole = items[0 if after is None else after + 1 : before]
    page = whole[-limit:] if before is not None and after is None else whole[:limit]
    return page, len(page) < len(whole)


def _ids_by_time(version: VersionReader, newest_first: bool) -> list[str]:
    table = version.table("documents")
    rows = table.read_columns(["document_id", "fetched_at"], kept_documents(table.schema.names))
    ids: list[str] = rows.sort(["fetched_at", "document_id"], descending=newest_first)["document_id"].to_list()
    return ids


def _documents(version: VersionReader, ids: list[str]) -> tuple[TimedDocument, ...]:
    rows = version.table("documents").rows(_Row, sql_in("document_id", ids)) if ids else []
    found = {row.document_id: row for row in rows}
    return tuple(_timed(found[each]) for each in ids)


def _timed(row: _Row) -> TimedDocument:
    return TimedDocument(
        document_id=row.document_id,
        source=row.source,
        key=row.key,
        title=row.title,
        language=row.language,
        fetched_at=row.fetched_at,
        text_bytes=len(row.markdown.encode()),
    )


def _position(version: VersionReader, ids: list[str], document_id: str) -> int:
    try:
        return ids.index(document_id)
    except ValueError:
        raise UnknownDocument(version.key, document_id) from None
