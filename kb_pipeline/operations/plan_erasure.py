"""Says what erasing a document would remove, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs import erasures, versions
from kb_pipeline.control.kbs.catalog import get_kb, list_kbs
from kb_pipeline.errors import UnknownDocument
from kb_pipeline.maintenance.garbage_collection import chunk_tables
from kb_pipeline.maintenance.purge import find_documents, twins_of
from kb_pipeline.model import KbKey, Record
from kb_pipeline.operations.housekeeping import READER_GRACE, manifests_in_use
from kb_pipeline.settings import Settings
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Manifest
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.raw_segments import read_bodies, segments_with_key
from kb_pipeline.store.stage_tables import DOCUMENTS, VECTORS_PREFIX
from kb_pipeline.store.table import sql_in


@dataclass(frozen=True, slots=True)
class ErasurePlan(Record):
    """What `kb erase` would remove, if nothing is written meanwhile."""

    kb: KbKey
    key: str
    """Of the document."""
    document_ids: tuple[str, ...]
    """One for each source that has the key, or had it in a version that is kept; empty if it is erased already."""
    versions: tuple[int, ...]
    """The kept versions that it would be taken out of."""
    pending_versions: tuple[int, ...]
    """Those that wait for approval, which would have to be built again."""
    chunks: int
    """Different chunks, over the head and all those versions."""
    bodies: int
    """How many times its bytes are stored, as they were fetched."""
    bytes: int
    vectors: int
    """Cached vectors of texts that no other document of the tenant has."""
    same_content_at: tuple[str, ...]
    """Keys of other documents with the same bytes or text; they stay."""


def plan_erasure(settings: Settings, db: Database, key: KbKey, doc_key: str) -> ErasurePlan:
    """Return what erasing a document would remove.

    Raises:
        UnknownKb, UnknownDocument: there is no such KB or document, and no receipt of one.
    """
    get_kb(db, key)
    store, kept = KbStore(KbPaths(settings.data_dir, key)), versions.kept_manifests(db, key)
    ids = find_documents(store, doc_key, kept)
    segments = segments_with_key(store.paths.raw, doc_key)
    if not ids and not segments and erasures.find_receipt(db, key, doc_key) is None:
        raise UnknownDocument(key, doc_key)
    of_document = sql_in("document_id", ids) if ids else "document_id IS NULL"  # of none: only its bytes are left
    chunks, texts = set[str](), set[str]()
    for table in chunk_tables(store, kept):
        rows = table.read_columns(["chunk_id", "text_hash"], of_document)
        chunks.update(rows["chunk_id"])
        texts.update(rows["text_hash"])
    sizes = [len(body.body) for body in read_bodies(store.paths.raw, segments) if body.body is not None]
    return ErasurePlan(
        kb=key,
        key=doc_key,
        document_ids=tuple(ids),
        versions=tuple(sorted(m.version for m in kept if _holds(store, m, of_document))),
        pending_versions=tuple(sorted(each.number for each in versions.pending_versions(db, key))) if ids else (),
        chunks=len(chunks),
        bodies=len(sizes),
        bytes=sum(sizes),
        vectors=_count_vectors(store, texts - _texts_of_others(settings, db, store, kept, ids)),
        same_content_at=tuple(twins_of(store, ids, kept).same) if ids else (),
    )


def _holds(store: KbStore, manifest: Manifest, where: str) -> bool:
    pin = manifest.tables["documents"]
    return pin.name == DOCUMENTS and store.tables.open(pin.name, pin.version).count(where) > 0


def _count_vectors(store: KbStore, texts: set[str]) -> int:
    where = sql_in("text_hash", sorted(texts))
    return sum(store.vectors.open(name).count(where) for name in store.vectors.names(VECTORS_PREFIX)) if texts else 0


def _texts_of_others(
    settings: Settings, db: Database, store: KbStore, kept: Sequence[Manifest], ids: Sequence[str]
) -> set[str]:
    """Return the hashes of the texts of all other documents of the tenant."""
    others = f"NOT ({sql_in('document_id', ids)})" if ids else None
    texts: set[str] = set()
    for table in chunk_tables(store, kept):
        texts.update(table.read_columns(["text_hash"], others)["text_hash"])
    for other, manifests in _other_kbs(settings, db, store.paths.key):
        for table in chunk_tables(other, manifests):
            texts.update(table.read_columns(["text_hash"])["text_hash"])
    return texts


def _other_kbs(settings: Settings, db: Database, key: KbKey) -> Iterator[tuple[KbStore, Sequence[Manifest]]]:
    for record in list_kbs(db):
        if record.key.tenant == key.tenant and record.key != key:
            store = KbStore(KbPaths(settings.data_dir, record.key))
            yield store, list(manifests_in_use(db, store, record.key, READER_GRACE))
