"""Reads the documents of one version: the list, one document, its exact bytes and where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from kb_pipeline.errors import DamagedStore, UnknownDocument
from kb_pipeline.index.document_page import DocumentEntry
from kb_pipeline.index.reader import VersionReader
from kb_pipeline.index.search import Hit
from kb_pipeline.model import EmbeddingModel, JsonObject, RawDocument, Record
from kb_pipeline.store.manifest import Manifest
from kb_pipeline.store.raw_segments import locate_bodies, read_bodies
from kb_pipeline.store.stage_tables import kept_documents
from kb_pipeline.store.table import sql_in

VALIDATORS = ("etag", "last_modified", "content_type")
"""What the server said of the bytes, beside them."""
_MOST_HOPS = 10
"""Redirects on the way from an alias to its document, as many as a crawl follows."""


@dataclass(frozen=True, slots=True)
class ListedDocument(Record):
    """A document of a version, without its text."""

    document_id: str
    source: str
    key: str
    title: str
    language: str
    sha256: str
    """Of the exact bytes that it was made from."""
    chunks: int
    fetched_at: datetime
    run_id: str
    """The run that made it."""
    aliases: tuple[str, ...]
    """Other keys that it can be found by: pages that redirect to it, and those with the same text."""


@dataclass(frozen=True, slots=True)
class Provenance(Record):
    """Where a document came from: its bytes, how they were fetched, and the code, libraries and model behind it."""

    url: str
    """Where the bytes finally came from, after redirects."""
    fetched_at: datetime
    etag: str | None
    last_modified: str | None
    content_type: str | None
    sha256: str
    run_id: str
    code: Mapping[str, str]
    libraries: Mapping[str, str]
    model: EmbeddingModel


@dataclass(frozen=True, slots=True)
class HitProvenance(Record):
    """Where a hit came from: its place in the document's text, and the document's provenance."""

    start: int
    end: int
    document: Provenance

    def as_json(self) -> JsonObject:
        """Return the provenance as the command line prints it: the document's is beside the place."""
        return {"start": self.start, "end": self.end, **self.document.as_json()}


@dataclass(frozen=True, slots=True)
class StoredDocument(Record):
    """One document of a version with its text and provenance."""

    document_id: str
    source: str
    key: str
    title: str
    language: str
    markdown: str
    canonical_url: str | None
    published: str | None
    modified: str | None
    rules: str | None
    """Fingerprint of the cleaning rules that made it."""
    duplicate_of: str | None
    """The document that stands for it in the index, when another has the same text."""
    left_out: str | None
    """Why it is not in the index although no other has the same text: a code such as `listing_view`."""
    view_of: str | None
    """The document that it is a view of, if it is left out as one."""
    translations: Mapping[str, str]
    """Addresses by language."""
    metadata: Mapping[str, str | list[str]]
    """What its page says for machines: price, availability, rating, dates, place, author, path."""
    words: Mapping[str, int] | None
    """Words of its page: `kept`, and those that cleaning removed, by reason; None for text and for what an earlier
    release cleaned."""
    cut_blocks: str | None
    """How many blocks at its beginning and end are left out since most pages of the site repeat them: `2:1`."""
    consent: Mapping[str, str | bool] | None
    """What its page says of its use."""
    rendered: bool
    """Whether a browser rendered the page."""
    version: int
    provenance: Provenance

    def as_json(self) -> JsonObject:
        """Return the document as the command line prints it: what its provenance says is beside the rest."""
        fields = Record.as_json(self)
        del fields["provenance"]
        return fields | self.provenance.as_json()


@dataclass(frozen=True, slots=True)
class _DocumentRow:
    document_id: str
    source: str
    key: str
    title: str
    language: str
    raw_sha256: str
    fetched_at: datetime
    run_id: str
    markdown: str
    canonical_url: str | None
    published: str | None
    modified: str | None
    rules: str | None
    duplicate_of: str | None
    left_out: str | None
    view_of: str | None
    translations: str | None
    metadata: str | None
    words: str | None
    cut_blocks: str | None


@dataclass(frozen=True, slots=True)
class _Origin:
    """What `documents` says of where a document came from."""

    document_id: str
    raw_sha256: str
    fetched_at: datetime
    run_id: str


@dataclass(frozen=True, slots=True)
class _PageRow:
    page_id: str
    url: str
    sha256: str
    segment: str
    position: int
    consent: str | None
    rendered: bool | None
    etag: str | None
    last_modified: str | None
    content_type: str | None


@dataclass(frozen=True, slots=True)
class _Redirect:
    redirect_to: str | None


def list_documents(version: VersionReader) -> Iterator[ListedDocument]:
    """Yield every document of the version; raises DamagedStore."""
    aliases = _aliases(version)
    chunks = dict(version.table("chunks").read_columns(["document_id"])["document_id"].value_counts().iter_rows())
    documents = version.table("documents")
    for row in documents.stream_rows(DocumentEntry, kept_documents(documents.schema.names)):
        yield ListedDocument(
            document_id=row.document_id,
            source=row.source,
            key=row.key,
            title=row.title,
            language=row.language,
            sha256=row.raw_sha256,
            chunks=chunks.get(row.document_id, 0),
            fetched_at=row.fetched_at,
            run_id=row.run_id,
            aliases=tuple(aliases.get(row.document_id, ())),
        )


def read_document(version: VersionReader, key: str) -> StoredDocument:
    """Read one document by its key or that of a page that redirects to it.

    Raises:
        UnknownDocument: the version has none such.
        DamagedStore: a table of the version cannot be read.
    """
    return _document(version, _document_row(version, key))


def read_document_by_id(version: VersionReader, document_id: str) -> StoredDocument:
    """Read one document by its id; raises UnknownDocument or DamagedStore."""
    return _document(version, _row_by_id(version, document_id))


def _document(version: VersionReader, row: _DocumentRow) -> StoredDocument:
    page = _pages(version, [row.document_id])[row.document_id]
    origin = _Origin(row.document_id, row.raw_sha256, row.fetched_at, row.run_id)
    return StoredDocument(
        document_id=row.document_id,
        source=row.source,
        key=row.key,
        title=row.title,
        language=row.language,
        markdown=row.markdown,
        canonical_url=row.canonical_url,
        published=row.published,
        modified=row.modified,
        rules=row.rules,
        duplicate_of=row.duplicate_of,
        left_out=row.left_out,
        view_of=row.view_of,
        translations=json.loads(row.translations or "{}"),
        metadata=json.loads(row.metadata or "{}"),
        words=json.loads(row.words or "null"),
        cut_blocks=row.cut_blocks,
        consent=json.loads(page.consent or "null"),
        rendered=bool(page.rendered),
        version=version.number,
        provenance=_provenance(origin, page, version.manifest),
    )


def provenance_of(version: VersionReader, hits: Sequence[Hit]) -> list[HitProvenance]:
    """Say where each hit came from, with one query a table, however many hits."""
    ids = sorted({hit.document_id for hit in hits})
    if not ids:
        return []
    origins = {row.document_id: row for row in version.table("documents").rows(_Origin, sql_in("document_id", ids))}
    _require_rows(version, "documents", ids, origins)
    pages = _pages(version, ids)
    return [
        HitProvenance(
            hit.start, hit.end, _provenance(origins[hit.document_id], pages[hit.document_id], version.manifest)
        )
        for hit in hits
    ]


def read_raw_bytes(version: VersionReader, key: str) -> bytes:
    """Read the exact bytes that a document was made from; raises UnknownDocument or DamagedStore."""
    return read_raw_document(version, key).body


def read_raw_bytes_by_id(version: VersionReader, document_id: str) -> bytes:
    """Read the exact bytes that the document of that id was made from; raises UnknownDocument or DamagedStore."""
    return _raw_document(version, _row_by_id(version, document_id)).body


def read_raw_document(version: VersionReader, key: str) -> RawDocument:
    """Read the bytes that a document was made from, as they were fetched; raises UnknownDocument or DamagedStore."""
    return _raw_document(version, _document_row(version, key))


def _raw_document(version: VersionReader, document: _DocumentRow) -> RawDocument:
    segment, position = _locate(version, document)
    for raw in read_bodies(version.store.paths.raw, {segment: [position]}):
        return RawDocument(
            source=document.source,
            key=document.key,
            url=raw.url,
            body=raw.body,
            sha256=raw.sha256,
            content_type=raw.content_type or "",
            fetched_at=raw.fetched_at,
        )
    raise DamagedStore(segment, f"no row {position}")


def _document_row(version: VersionReader, key: str) -> _DocumentRow:
    return _only_row(version, "key", redirected(version, key), key)


def _row_by_id(version: VersionReader, document_id: str) -> _DocumentRow:
    return _only_row(version, "document_id", document_id, document_id)


def _only_row(version: VersionReader, column: str, value: str, asked: str) -> _DocumentRow:
    where = sql_in(column, [value]) + " AND outcome = 'document'"
    rows = version.table("documents").rows(_DocumentRow, where, limit=1)
    if not rows:
        raise UnknownDocument(version.key, asked)
    return rows[0]


def redirected(version: VersionReader, key: str) -> str:
    """Return where the page of that key leads, or the key itself."""
    for _ in range(_MOST_HOPS):
        where = sql_in("key", [key]) + " AND outcome = 'redirected'"
        found = version.table("pages").rows(_Redirect, where, limit=1)
        if not found or found[0].redirect_to is None:
            break
        key = found[0].redirect_to
    return key


def _aliases(version: VersionReader) -> dict[str, list[str]]:
    """By document, the keys under which it can be found as well: what redirects to it, and what has its text."""
    pages = version.table("pages").read_columns(["source", "key", "redirect_to"], "outcome = 'redirected'")
    leads = {(source, key): target for source, key, target in pages.iter_rows() if target}
    columns = ["document_id", "source", "key", "duplicate_of"]
    same = version.table("documents").read_columns(columns, "outcome = 'document'")
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


def _provenance(document: _Origin, page: _PageRow, manifest: Manifest) -> Provenance:
    """Join what a document says of itself, its page of the fetch, and the manifest of the code."""
    # Where newer bytes could not be cleaned, the validators are theirs and not those of the document that was kept.
    is_same = page.sha256 == document.raw_sha256
    return Provenance(
        url=page.url,
        fetched_at=document.fetched_at,
        etag=page.etag if is_same else None,
        last_modified=page.last_modified if is_same else None,
        content_type=page.content_type if is_same else None,
        sha256=document.raw_sha256,
        run_id=document.run_id,
        code=manifest.code,
        libraries=manifest.libraries,
        model=manifest.model,
    )


def _pages(version: VersionReader, page_ids: Sequence[str]) -> dict[str, _PageRow]:
    found = {row.page_id: row for row in version.table("pages").rows(_PageRow, sql_in("page_id", page_ids))}
    _require_rows(version, "pages", page_ids, found)
    return found


def _require_rows(version: VersionReader, role: str, ids: Sequence[str], found: Mapping[str, object]) -> None:
    if missing := sorted(set(ids) - set(found)):
        raise DamagedStore(str(version.table(role).path), f"no row of {', '.join(missing)}")


def _locate(version: VersionReader, document: _DocumentRow) -> tuple[str, int]:
    """Return segment and position of the document's bytes."""
    page = _pages(version, [document.document_id])[document.document_id]
    if page.sha256 == document.raw_sha256:
        return page.segment, page.position
    # The page names newer bytes, which could not be cleaned: those of the document kept lie in an earlier segment.
    raw = version.store.paths.raw
    for segment, position, sha256 in locate_bodies(raw, document.key):
        if sha256 == document.raw_sha256:
            return segment, position
    raise DamagedStore(str(raw), f"no segment holds the bytes {document.raw_sha256} of {document.key}")
