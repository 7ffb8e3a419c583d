"""A small KB whose raw segments and stage tables are written directly, paragraph by paragraph."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kb_pipeline.chunk.refresh import chunks_schema
from kb_pipeline.clean.refresh import documents_schema
from kb_pipeline.fetch.fetch_state import pages_schema
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.link_text import strip_link_targets
from kb_pipeline.model import digest, document_id
from kb_pipeline.publish.candidate import pin_candidate
from kb_pipeline.store.manifest import Manifest
from kb_pipeline_tests.index.fruit import Fruit, vector_of

FETCHED_AT = datetime(2026, 11, 21, 8, tzinfo=UTC)


class Orchard(Fruit):
    """Every paragraph is a chunk; `publish` pins what stands in the tables as the next version."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self.manifests: list[Manifest] = []

    def grow(self, key: str, *paragraphs: str, body: bytes | None = None, duplicate_of: str | None = None) -> None:
        """Write or replace a document."""
        markdown = "\n\n".join(paragraphs)
        page = self.put_page(key, markdown.encode() if body is None else body)
        title = key.strip("/")
        base = {
            "document_id": page["page_id"],
            "source": "site",
            "key": key,
            "title": title,
            "language": "en",
            "document_hash": digest("document", title, "en", markdown),
        }
        document = base | {
            "outcome": "document",
            "markdown": markdown,
            "duplicate_of": duplicate_of and document_id("site", duplicate_of),
            "raw_sha256": page["sha256"],
            "fetched_at": FETCHED_AT,
            "run_id": "run",
        }
        self.documents.upsert(pa.Table.from_pylist([document], schema=documents_schema()))
        chunks = [] if duplicate_of else self._chunks(base, paragraphs)
        rows = pa.Table.from_pylist(chunks, schema=chunks_schema())
        self.chunks.replace_group(rows, "document_id", [page["page_id"]])

    def put_page(self, key: str, body: bytes) -> dict[str, Any]:
        """Write a segment with these bytes, and the row that names them."""
        sha256 = hashlib.sha256(body).hexdigest()
        fetched = {
            "key": key,
            "url": f"http://x.example{key}",
            "content_type": "text/html",
            "sha256": sha256,
            "fetched_at": FETCHED_AT,
        }
        segment = f"{sha256[:16]}-{key.strip('/').replace('/', '-')}.parquet"
        self.store.paths.raw.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([fetched | {"body": body}]), self.store.paths.raw / segment)
        page = fetched | {
            "page_id": document_id("site", key),
            "source": "site",
            "outcome": "fetched",
            "etag": f'"{sha256[:8]}"',
            "segment": segment,
            "position": 0,
        }
        self.pages.upsert(pa.Table.from_pylist([page], schema=pages_schema()))
        return page

    def publish(self) -> Manifest:
        """Pin the tables as they are; what the gates say of them is not asked."""
        live = self.manifests[-1] if self.manifests else None
        manifest = pin_candidate(self.store, self.candidate(live).manifest, len(self.manifests) + 1, live)
        self.manifests.append(manifest)
        return manifest

    def version(self, number: int) -> VersionReader:
        """Open a published version for reading."""
        return self.reader(self.manifests[number - 1])

    def _chunks(self, base: dict[str, Any], paragraphs: Sequence[str]) -> list[dict[str, Any]]:
        rows, start = [], 0
        for ordinal, text in enumerate(paragraphs):
            words, end = strip_link_targets(text), start + len(text)
            self.put_vector(words, vector_of(words))
            chunk_id = digest("chunk", base["document_id"], f"{start}:{end}", digest(words))
            place = {"chunk_id": chunk_id, "headings": [], "ordinal": ordinal, "start": start, "end": end}
            rows.append(base | place | {"text": text, "words": words, "tokens": 9, "text_hash": digest(words)})
            start = end + 2
        return rows
