"""Reads the documents of one version: the list, one document, its exact bytes and where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kb_pipeline.errors import DamagedStore, UnknownDocument
from kb_pipeline.storage import read_bodies
from kb_pipeline.tables import KbStore, LanceTable, sql_in

_LISTED = ("document_id", "source", "key", "title", "language", "raw_sha256", "fetched_at", "run_id")
_KEPT = "outcome = 'document' AND duplicate_of IS NULL"


def list_documents(store: KbStore, manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every document of the version, as the command line prints it."""
    counts = _table(store, manifest, "chunks").narrow(["document_id"])["document_id"].value_counts()
    chunks = dict(counts.iter_rows())
    for batch in _table(store, manifest, "documents").stream(_LISTED, _KEPT):
        for row in batch.to_pylist():
            yield {
                "document_id": row["document_id"],
                "source": row["source"],
                "key": row["key"],
                "title": row["title"],
                "language": row["language"],
                "sha256": row["raw_sha256"],
                "chunks": chunks.get(row["document_id"], 0),
                "fetched_at": row["fetched_at"].isoformat(),
                "run_id": row["run_id"],
            }


def read_document(store: KbStore, manifest: Mapping[str, Any], key: str) -> dict[str, Any]:
    """One document with its Markdown and provenance; raises UnknownDocument.

    `duplicate_of` names the document that stands for it in the index, when another has the same text.
    """
    columns = [*_LISTED, "markdown", "canonical_url", "published", "modified", "rules", "duplicate_of"]
    where = sql_in("key", [key]) + " AND outcome = 'document'"
    rows = _table(store, manifest, "documents").head(columns, 1, where)
    if not rows:
        raise UnknownDocument(store.key, key)
    page = _page(store, manifest, rows[0]["document_id"])
    return rows[0] | {
        "fetched_at": rows[0]["fetched_at"].isoformat(),
        "sha256": rows[0].pop("raw_sha256"),
        "url": page["url"],
        "etag": page["etag"],
        "last_modified": page["last_modified"],
        "content_type": page["content_type"],
        "code": manifest["code"],
        "version": manifest["version"],
    }


def read_raw_bytes(store: KbStore, manifest: Mapping[str, Any], key: str) -> bytes:
    """The exact bytes that the document was made from; raises UnknownDocument or DamagedStore."""
    document = read_document(store, manifest, key)
    page = _page(store, manifest, document["document_id"])
    for _, _, row in read_bodies(store.paths.raw, {page["segment"]: [page["position"]]}):
        return bytes(row["body"])
    raise DamagedStore(page["segment"], f"no row {page['position']}")


def _page(store: KbStore, manifest: Mapping[str, Any], page_id: str) -> dict[str, Any]:
    columns = ["url", "etag", "last_modified", "content_type", "segment", "position"]
    rows = _table(store, manifest, "pages").head(columns, 1, sql_in("page_id", [page_id]))
    if not rows:
        raise DamagedStore(str(store.paths.lance), f"page {page_id} is missing")
    return rows[0]


def _table(store: KbStore, manifest: Mapping[str, Any], role: str) -> LanceTable:
    pin = manifest["tables"][role]
    return store.tables.open(pin["name"], pin["version"])
