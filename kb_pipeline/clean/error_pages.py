"""Lets no error, wall or log-in pass that a server gives as if it were the page; the last good document stays."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kb_pipeline.clean.notices import LOGIN, REASONS, WALL
from kb_pipeline.clean.segments import TEXT, Segments
from kb_pipeline.clean.signs import ASKS_LOGIN, ERROR, PASSWORD, is_error_page
from kb_pipeline.link_text import strip_link_targets
from kb_pipeline.model import Document, Rejected, document_id
from kb_pipeline.store.table import LanceTable, sql_in

Result = Document | Rejected
_LEAST_WORDS = 3
"""Words of a text from which finding it in both documents says that the page was edited, not replaced."""


def fail_notices(results: Sequence[Result], starts: Collection[str], keep_views: Collection[str]) -> list[Result]:
    """Return the results, with a rejection for each notice: a page that says itself that it is none.

    Args:
        results: of cleaning.
        starts: keys that people named: they may want a form to log in, but no error.
        keep_views: sources of which pages stay documents whatever they seem to be, but for walls.
    """
    return [_without_notice(result, starts, keep_views) for result in results]


def _without_notice(result: Result, starts: Collection[str], keep_views: Collection[str]) -> Result:
    notice = next((sign for sign in result.signs if sign in REASONS), None) if isinstance(result, Document) else None
    is_wanted = result.source in keep_views or (notice == LOGIN and result.key in starts)
    return result if notice is None or (is_wanted and notice != WALL) else _as_failure(result, notice)


def fail_error_pages(results: Sequence[Result], documents: LanceTable, good: Collection[str]) -> list[Result]:
    """Return the results, with a rejection for each page like an error that would replace one of another kind.

    Args:
        results: of cleaning.
        documents: the table, with what was made of the same pages before.
        good: ids of the documents in it.
    """
    suspects = {_id(result) for result in results if isinstance(result, Document) and _is_suspect(result)}
    before = {row["document_id"]: row for row in _rows(documents, suspects & set(good))}
    return [_as_failure(result) if _is_loss(result, before.get(_id(result))) else result for result in results]


def _id(result: Result) -> str:
    return document_id(result.source, result.key)


def _is_suspect(document: Document) -> bool:
    return ERROR in document.signs or {ASKS_LOGIN, PASSWORD} <= set(document.signs)


def _rows(documents: LanceTable, ids: Collection[str]) -> list[dict[str, object]]:
    columns = ["document_id", "title", "markdown", "segments", "signs", "raw_sha256"]
    return documents.head(columns, len(ids), sql_in("document_id", sorted(ids))).to_pylist() if ids else []


def _is_loss(result: Result, before: dict[str, object] | None) -> bool:
    if before is None or not isinstance(result, Document) or before["raw_sha256"] == result.raw_sha256:
        return False  # the same bytes by other rules are no loss
    was_error = is_error_page(str(before["title"]), strip_link_targets(str(before["markdown"])))
    was_login = ASKS_LOGIN in str(before["signs"]).split()
    return not (was_error or was_login) and not (_texts(before["segments"]) & _texts(result.segments))


def _texts(stored: object) -> set[int]:
    if not isinstance(stored, bytes):
        return set()
    segments = Segments.from_bytes(stored)
    found: list[int] = segments.text[(segments.kind == TEXT) & (segments.words >= _LEAST_WORDS)].tolist()
    return set(found)


def _as_failure(result: Result, reason: str = "error_page") -> Rejected:
    title = result.title if isinstance(result, Document) else ""
    return Rejected(result.source, result.key, reason, f"{REASONS[reason]}: {title}", result.raw_sha256)
