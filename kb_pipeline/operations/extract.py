"""Runs the clean stage over files, without a KB."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kb_pipeline.clean.plain_text import plain_text
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.clean.worker_pool import clean_documents
from kb_pipeline.model import Document, RawDocument, Record, Rejected

_TYPES = {".html": "text/html", ".htm": "text/html", ".xhtml": "application/xhtml+xml", ".md": "text/markdown",
          ".txt": "text/plain"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExtractedFile(Record):
    """What the clean stage made of a file."""

    file: Path
    title: str
    language: str
    """ISO 639-1 code, or `und`."""
    text: str
    """The Markdown without its marks."""
    markdown: str


@dataclass(frozen=True, slots=True)
class UnextractedFile(Record):
    """A file that gave no document, and why."""

    file: Path
    error: str
    """`unreadable`, or the reason for which the clean stage rejects it."""
    message: str


def extract_files(files: Sequence[Path], url: str | None) -> Iterator[ExtractedFile | UnextractedFile]:
    """Yield one result for each file, in order; one bad file does not stop the others."""
    readable, unreadable = [], {}
    for path in files:
        try:
            readable.append(_raw(path, url))
        except OSError as error:
            unreadable[path] = str(error)
    cleaned = clean_documents(readable, CleaningRules())
    for path in files:
        if path in unreadable:
            yield UnextractedFile(path, "unreadable", unreadable[path])
        else:
            yield _result(path, next(cleaned))


def _result(path: Path, cleaned: Document | Rejected) -> ExtractedFile | UnextractedFile:
    if isinstance(cleaned, Rejected):
        return UnextractedFile(path, cleaned.reason, cleaned.message)
    return ExtractedFile(path, cleaned.title, cleaned.language, plain_text(cleaned.markdown), cleaned.markdown)


def _raw(path: Path, url: str | None) -> RawDocument:
    body = path.read_bytes()
    return RawDocument(
        source="extract",
        key=url or path.resolve().as_uri(),
        url=url or path.resolve().as_uri(),
        body=body,
        sha256=hashlib.sha256(body).hexdigest(),
        content_type=_TYPES.get(path.suffix.lower(), ""),
        fetched_at=datetime.now(UTC),
    )
