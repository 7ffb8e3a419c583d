"""Runs the clean stage over files, without a KB."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kb_pipeline.clean.plain_text import plain_text
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.clean.worker_pool import clean_documents
from kb_pipeline.model import RawDocument, Rejected

_TYPES = {".html": "text/html", ".htm": "text/html", ".xhtml": "application/xhtml+xml", ".md": "text/markdown",
          ".txt": "text/plain"}  # fmt: skip


def extract_files(files: Sequence[Path], url: str | None) -> Iterator[dict[str, Any]]:
    """Yield one result a file, in order: its text, or `error` and why; one bad file does not stop the others."""
    readable, unreadable = [], {}
    for path in files:
        try:
            readable.append(_raw(path, url))
        except OSError as error:
            unreadable[path] = str(error)
    cleaned = clean_documents(readable, CleaningRules())
    for path in files:
        if path in unreadable:
            yield {"file": str(path), "error": "unreadable", "message": unreadable[path]}
            continue
        result = next(cleaned)
        if isinstance(result, Rejected):
            yield {"file": str(path), "error": result.reason, "message": result.message}
        else:
            yield {
                "file": str(path),
                "title": result.title,
                "language": result.language,
                "text": plain_text(result.markdown),
                "markdown": result.markdown,
            }


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
