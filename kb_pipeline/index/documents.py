"""Reads the documents of one version: the list, one document, its exact bytes and where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kb_pipeline.errors import DamagedStore, UnknownDocument
from kb_pipeline.index.search import Hit
from kb_pipeline.model import RawDocument
from kb_pipeline.store.lance_table import KbStore, LanceTable, sql_in
from kb_pipeline.store.paths import locate_bodies, read_bodies

KEPT = "outcome = 'document' AND duplicate_of IS NULL"
"""The rows of `documents` that a reader of a version sees."""
VALIDATORS = ("etag", "last_modified", "content_type")
"""What the server said of the bytes, beside them."""
_MOST_HOPS = 10
"""Redirects on the way from an alias to its document, as many as a crawl follows."""
_LISTED = ("document_id", "source", "key", "title", "language", "raw_sha256", "fetched_at", "run_id")


def open_table(store: KbStore, manifest: Mapping[str, Any], role: str) -> LanceTable:
    """A table of the version: `pages`, `documents`, `chunks` or `index`, pinned to what it was; raises DamagedStore."""
    pin = manifest["tables"][role]
    return store.tables.open(pin["name"], pin["version"])


def list_documents(store: KbStore, manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every document of the version, as the command line prints it."""
    aliases = _aliases(store, manifest)
    counts = open_table(store, manifest, "chunks").read_columns(["document_id"])["document_id"].value_counts()
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
                "aliases": aliases.get(row["document_id"], []),
            }


def read_document(store: KbStore, manifest: Mapping[str, Any], key: str) -> dict[str, Any]:
    """One document with its Markdown and provenance, by its key or that of a page that redirects to it.

    `duplicate_of` names the document that stands for it in the index, when another has the same text; `translations`
    maps languages to addresses, and `consent` is what its page says of its use.

    Raises:
        UnknownDocument: the version has none such.
    """
    row = _document_row(store, manifest, _redirected(store, manifest, key))
    if row is None:
        raise UnknownDocument(store.key, key)
    page = _page(store, manifest, row["document_id"])
    document = row | _provenance(row, page, manifest) | {"version": manifest["version"]}
    document["translations"] = json.loads(row["translations"] or "{}")
    document["consent"] = json.loads(page["consent"] or "null")
    document["rendered"] = bool(page["rendered"])
    del document["raw_sha256"]
    return document


def _document_row(store: KbStore, manifest: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    columns = [
        *_LISTED, "markdown", "canonical_url", "published", "modified", "rules", "duplicate_of", "translations",
    ]  # fmt: skip
    where = sql_in("key", [key]) + " AND outcome = 'document'"
    rows = _head(open_table(store, manifest, "documents"), columns, 1, where)
    return rows[0] if rows else None


def _redirected(store: KbStore, manifest: Mapping[str, Any], key: str) -> str:
    """Where the page of that key leads, when it leads elsewhere."""
    pages = open_table(store, manifest, "pages")
    for _ in range(_MOST_HOPS):
        rows = pages.head(["redirect_to"], 1, sql_in("key", [key]) + " AND outcome = 'redirected'")
        if not rows or rows[0]["redirect_to"] is None:
            break
        key = rows[0]["redirect_to"]
    return key


def _aliases(store: KbStore, manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    """By document, the keys under which it can be found as well: what redirects to it, and what has its text."""
    pages = open_table(store, manifest, "pages").read_columns(
        ["source", "key", "redirect_to"], "outcome = 'redirected'"
    )
    leads = {(source, key): target for source, key, target in pages.iter_rows() if target}
    same = open_table(store, manifest, "documents").read_columns(
        ["document_id", "source", "key", "duplicate_of"], "outcome = 'document'"
    )
    stands = {(source, key): twin or document for document, source, key, twin in same.iter_rows()}
    found: dict[str, list[str]] = {}
    for document, _, key, twin in same.iter_rows():
        if twin and document != twin:
            found.setdefault(twin, []).append(key)
    for source, key in leads:
        target, hops = leads[source, key], 0
        while (source, target) in leads and hops < _MOST_HOPS:
            target, hops = leads[source, target], hops + 1
        if document := stands.get((source, target)):
            found.setdefault(document, []).append(key)
    return {document: sorted(keys) for document, keys in found.items()}


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
            key=document["key"],
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
    rows = _head(table, [id_column, *columns], len(ids), sql_in(id_column, ids))
    found = {row[id_column]: row for row in rows}
    if missing := set(ids) - set(found):
        raise DamagedStore(str(table.path), f"no row of {', '.join(sorted(missing))}")
    return found


def _page(store: KbStore, manifest: Mapping[str, Any], page_id: str) -> dict[str, Any]:
    columns = ["url", "sha256", "segment", "position", "consent", "rendered", *VALIDATORS]
    return _rows_by_id(store, manifest, "pages", "page_id", [page_id], columns)[page_id]


def _head(table: LanceTable, columns: Sequence[str], limit: int, where: str) -> list[dict[str, Any]]:
    """Rows; what a version of an earlier release does not have is None."""
    present = [name for name in columns if name in table.schema.names]
    return [dict.fromkeys(columns) | row for row in table.head(present, limit, where)]


def _place(store: KbStore, manifest: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[str, int]:
    """Segment and position of the document's bytes."""
    page = _page(store, manifest, document["document_id"])
    if page["sha256"] == document["sha256"]:
        return page["segment"], page["position"]
    # The page names newer bytes, which could not be cleaned: those of the document kept lie in an earlier segment.
    for segment, position, sha256 in locate_bodies(store.paths.raw, document["key"]):
        if sha256 == document["sha256"]:
            return segment, position
    raise DamagedStore(str(store.paths.raw), f"no segment holds the bytes {document['sha256']} of {document['key']}")
