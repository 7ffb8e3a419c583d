"""Raw documents made of small bodies, for the tests of this folder."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from kb_pipeline.clean.html.document import read_html
from kb_pipeline.clean.rules import CleaningRules
from kb_pipeline.model import Document, RawDocument, Rejected


def raw(
    body: str | bytes, content_type: str = "text/html", url: str = "https://site.test/guide/page.html"
) -> RawDocument:
    raw_bytes = body.encode() if isinstance(body, str) else body
    return RawDocument(
        source="site",
        key=url,
        url=url,
        body=raw_bytes,
        sha256=hashlib.sha256(raw_bytes).hexdigest(),
        content_type=content_type,
        fetched_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def document(body: str | bytes, content_type: str = "text/html") -> Document:
    result = read_html(raw(body, content_type), CleaningRules())
    assert isinstance(result, Document), result
    return result


def markdown(body: str) -> str:
    return document(body).markdown


def rejection(body: str | bytes, content_type: str = "text/html") -> Rejected:
    result = read_html(raw(body, content_type), CleaningRules())
    assert isinstance(result, Rejected), result
    return result
