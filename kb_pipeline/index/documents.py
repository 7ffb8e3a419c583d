"""Reads the documents of one version: the list, one document, its exact bytes and where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kb_pipeline.errors import DamagedStore, UnknownDocument
from kb_pipeline.index.search import Hit
from kb_pipeline.model import RawDocument
from kb_pipeline.storage import places_of, read_bodies
from kb_pipeline.tables import KbStore, LanceTable, sql_in

KEPT = "outcome = 'document' AND duplicate_of IS NULL"
"""The rows of `documents` that a reader of a version sees."""
VALIDATORS = ("etag", "last_modified", "content_type")
"""What the server said of the bytes, beside them."""
_LISTED = ("document_id", "source", "key", "title", "language", "raw_sha256", "fetched_at", "run_id")


def open_table(store: KbStore, manifest: Mapping[str, Any], role: str) -> LanceTable:
    """A table of the version: `pages`, `documents`, `chunks` or `index`, pinned to what it was; raises DamagedStore."""
    pin = manifest["tables"][role]
    return store.tables.open(pin["name"], pin["version"])


def list_documents(store: KbStore, manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every document of the version, as the command line prints it."""
    counts = open_table(store, manifest, "chunks").narrow(["document_id"])["document_id"].value_counts()
    chunks = dict(counts.iter_rows())
    for batch in open_table(store, manifest, "documents").stream(_LISTED, KEPT):
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
    rows = open_table(store, manifest, "documents").head(columns, 1, where)
    if not rows:
        raise UnknownDocument(store.key, key)
    row, page = rows[0], _page(store, manifest, rows[0]["document_id"])
    document = row | _provenance(row, page, manifest) | {"version": manifest["version"]}
    del document["raw_sha256"]
    return document


def provenance_of(store: KbStore, manifest: Mapping[str, Any], hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Where each hit came from: its bytes, how they were fetched, its place in the text, what made it of them.

    One query a table, however many hits.
    """
    ids = sorted({hit.document_id for hit in hits})
    documents = _rows_by_id(store, manifest, "documents", "document_id", ids, ["raw_sha256", "fetched_at", "run_id"])
    pages = _rows_by_id(store, manifest, "pages", "page_id", ids, ["url", "sha256", *VALIDATORS])
    return [
        {"start": hit.start, "end": hit.end} | _provenance(documents[hit.document_id], pages[hit.document_id], manifest)
        for hit in hits
    ]


def read_raw_bytes(store: KbStore, manifest: Mapping[str, Any], key: str) -> bytes:
    """The exact bytes that the document was made from; raises UnknownDocument or DamagedStore."""
    return read_raw_document(store, manifest, key).body


def read_raw_document(store: KbStore, manifest: Mapping[str, Any], key: str) -> RawDocument:
    """The exact bytes that the document was made from, as they were fetched; raises UnknownDocument or DamagedStore."""
    document = read_document(store, manifest, key)
    segment, position = _place(store, manifest, document)
    for _, _, row in read_bodies(store.paths.raw, {segment: [position]}):
        return RawDocument(
            source=document["source"],
            key=key,
            url=row["url"],
            body=bytes(row["body"]),
            sha256=row["sha256"],
            content_type=row["content_type"] or "",
            fetched_at=row["fetched_at"],
        )
    raise DamagedStore(segment, f"no row {position}")


def _provenance(document: Mapping[str, Any], page: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a document says of itself, what its page says of the fetch, what the manifest says of the code."""
    # Where newer bytes could not be cleaned, the validators are theirs and not those of the document that was kept.
    is_same = page["sha256"] == document["raw_sha256"]
    return {
        "url": page["url"],
        "fetched_at": document["fetched_at"].isoformat(),
        **{name: page[name] if is_same else None for name in VALIDATORS},
        "sha256": document["raw_sha256"],
        "run_id": document["run_id"],
        "code": manifest["code"],
        "libraries": manifest.get("libraries", {}),
        "model": manifest["model"],
    }


def _rows_by_id(
    store: KbStore, manifest: Mapping[str, Any], role: str, id_column: str, ids: Sequence[str], columns: Sequence[str]
) -> dict[str, dict[str, Any]]:
    if not ids:
        return {}
    table = open_table(store, manifest, role)
    rows = table.head([id_column, *columns], len(ids), sql_in(id_column, ids))
    found = {row[id_column]: row for row in rows}
    if missing := set(ids) - set(found):
        raise DamagedStore(str(table.path), f"no row of {', '.join(sorted(missing))}")
    return found


def _page(store: KbStore, manifest: Mapping[str, Any], page_id: str) -> dict[str, Any]:
    columns = ["url", "sha256", "segment", "position", *VALIDATORS]
    return _rows_by_id(store, manifest, "pages", "page_id", [page_id], columns)[page_id]


def _place(store: KbStore, manifest: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[str, int]:
    """Segment and position of the document's bytes."""
    page = _page(store, manifest, document["document_id"])
    if page["sha256"] == document["sha256"]:
        return page["segment"], page["position"]
    # The page names newer bytes, which could not be cleaned: those of the document kept lie in an earlier segment.
    for segment, position, sha256 in places_of(store.paths.raw, document["key"]):
        if sha256 == document["sha256"]:
            return segment, position
    raise DamagedStore(str(store.paths.raw), f"no segment holds the bytes {document['sha256']} of {document['key']}")
