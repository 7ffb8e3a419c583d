"""Erases one document of a KB from everything that this home stores, and proves it with a receipt."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kb_pipeline.control.coordination.leases import HeldLease, check_lease, hold_lease, release_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs import erasures, versions
from kb_pipeline.control.kbs.catalog import get_kb, list_kbs
from kb_pipeline.control.kbs.erasure_receipt import ErasedPlace, ErasureCheck, ErasureReceipt
from kb_pipeline.errors import DamagedStore, UnknownDocument
from kb_pipeline.failpoints import failpoint
from kb_pipeline.fetch.source import ERASED_MESSAGE
from kb_pipeline.fetch.web.link_graph import read_rows, remove_rows
from kb_pipeline.maintenance.garbage_collection import chunk_tables, clean_tables, unused_vectors
from kb_pipeline.maintenance.purge import (
    ERASED,
    Refusal,
    ask_again,
    find_documents,
    finish_purge,
    purge_tables,
    rows_left,
    twins_of,
)
from kb_pipeline.model import KbKey, document_id
from kb_pipeline.operations.housekeeping import READER_GRACE, manifests_in_use
from kb_pipeline.operations.recover_usage import recover_usage
from kb_pipeline.settings import Settings
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Manifest
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.raw_segments import redact_rows, remove_leftovers, segments_with_key
from kb_pipeline.store.stage_tables import VECTORS_PREFIX
from kb_pipeline.store.table import LanceTable

_NOT_REACHED = (
    "backups and snapshots of this home or of its disks",
    "folders written by kb export: they are their owners'",
    "Dagster's event log and the files in logs/: they name keys and counts, no text of documents",
    "the key itself: it is in this receipt, in the control plane and in the pages that link to it",
)


def erase_document(settings: Settings, db: Database, key: KbKey, doc_key: str) -> ErasureReceipt:
    """Remove a document from the live and every kept version, raw bytes, caches and indexes, for good.

    It is not fetched again. If the call is killed, the same call goes on; once it is done, the same call returns the
    receipt again.

    Returns:
        The receipt: every place that held something of it, what was removed there, and that nothing is left.

    Raises:
        UnknownKb, UnknownDocument: there is no such KB or document, and no receipt of one.
        LeaseHeld: a run writes the KB.
        DamagedStore: something of it was found after the erasure.
    """
    get_kb(db, key)
    if (kept := _kept_receipt(settings, db, key, doc_key)) is not None:
        return kept
    with hold_lease(db, key, _owner()) as lease:
        # Another call may have erased it meanwhile.
        receipt = _kept_receipt(settings, db, key, doc_key) or _Erasure(settings, db, lease, doc_key).run()
        release_lease(db, lease)
    return receipt


def lift_erasure(settings: Settings, db: Database, key: KbKey, doc_key: str) -> ErasureReceipt:
    """Let the next refresh fetch the document again; its receipt stays.

    Raises:
        UnknownKb, UnknownDocument: there is no such KB, or the document was not erased.
        LeaseHeld: a run writes the KB.
    """
    get_kb(db, key)
    if (found := erasures.find_receipt(db, key, doc_key)) is None:
        raise UnknownDocument(key, doc_key)
    receipt, is_lifted = found
    if not is_lifted:
        with hold_lease(db, key, _owner()) as lease:
            store = KbStore(KbPaths(settings.data_dir, key), lambda: check_lease(db, lease))
            ask_again(store, receipt.document_ids)
            erasures.lift_documents(db, lease, receipt.document_ids, settings.actor)
            release_lease(db, lease)
    return receipt


def _kept_receipt(settings: Settings, db: Database, key: KbKey, doc_key: str) -> ErasureReceipt | None:
    """Return the receipt of an erased document; None if there is something to erase, also once more."""
    found = erasures.find_receipt(db, key, doc_key)
    ids = _ids_of(settings, db, KbStore(KbPaths(settings.data_dir, key)), key, doc_key)
    if found is None and not ids:
        raise UnknownDocument(key, doc_key)
    if found is None or ids:
        return None
    receipt, is_lifted = found
    return receipt if receipt.is_finished and not is_lifted else None


class _Erasure:
    """One erasure, place by place."""

    def __init__(self, settings: Settings, db: Database, lease: HeldLease, doc_key: str) -> None:
        self._settings, self._db, self._lease, self._doc_key = settings, db, lease, doc_key
        self._key = lease.key
        self._store = KbStore(KbPaths(settings.data_dir, lease.key), lambda: check_lease(db, lease))
        self._places: list[ErasedPlace] = []
        found = erasures.find_receipt(db, lease.key, doc_key)
        self._before = found[0] if found else None
        earlier_ids = self._before.document_ids if self._before else ()
        self._ids = sorted({*_ids_of(settings, db, self._store, lease.key, doc_key), *earlier_ids})

    def run(self) -> ErasureReceipt:
        """Erase everything; the receipt says `unfinished` until everything has been looked through once more."""
        # First, because it counts what killed runs have used by the journals and vectors that are erased below.
        recover_usage(self._db, self._lease, self._store)
        kept = versions.kept_manifests(self._db, self._key)
        resumed = self._is_resumed(kept)
        receipt = self._receipt(kept)
        # Before anything is erased: from now on no refresh fetches the document, even if the rest fails.
        erasures.block_documents(self._db, self._lease, self._ids, receipt, self._settings.actor)
        failpoint("erase.blocked")
        self._drop_pending()
        failpoint("erase.pending")
        kept = self._purge_tables(kept, resumed=resumed)
        failpoint("erase.tables")
        self._drop_leftovers()
        self._redact_raw()
        self._forget_links()
        failpoint("erase.raw")
        self._delete_vectors(kept)
        failpoint("erase.vectors")
        checks = tuple(self._checks(kept))
        if left := [check.as_json() for check in checks if check.found]:
            raise DamagedStore(f"{self._key}, {self._doc_key}", f"still found after it was erased: {left}")
        receipt = receipt.finished(tuple(self._places), checks)
        erasures.block_documents(self._db, self._lease, self._ids, receipt, self._settings.actor)
        failpoint("erase.receipt")
        return receipt

    def _is_resumed(self, kept: Sequence[Manifest]) -> bool:
        """Return whether this call continues a killed one, and no refresh has published from the heads since."""
        before = self._before
        return (
            before is not None
            and not before.is_finished
            and {manifest.version for manifest in kept} <= set(before.versions)
        )

    def _receipt(self, kept: Sequence[Manifest]) -> ErasureReceipt:
        twins = twins_of(self._store, self._ids, kept)
        same, stood_for = set(twins.same), set(twins.stood_for)
        earlier: tuple[ErasureReceipt, ...] = ()
        if self._before is not None:
            earlier = self._before.earlier
            if self._before.is_finished:
                earlier = (*earlier, replace(self._before, earlier=()))
            else:
                same, stood_for = same | {*self._before.same_content_at}, stood_for | {*self._before.stood_for}
        return ErasureReceipt(
            kb=self._key,
            key=self._doc_key,
            document_ids=tuple(self._ids),
            erased_at=datetime.now(UTC),
            by=self._lease.owner,
            versions=tuple(manifest.version for manifest in kept),
            same_content_at=tuple(sorted(same)),
            stood_for=tuple(sorted(stood_for)),
            not_reached=_NOT_REACHED,
            earlier=earlier,
            status="unfinished",
        )

    def _drop_pending(self) -> None:
        """Supersede pending versions, which the next refresh builds again, and delete pruned ones without grace."""
        superseded = versions.pending_versions(self._db, self._key)
        for pending in superseded:
            versions.record_verdict(self._db, self._lease, pending.number, "superseded")
        kept = {manifest.version for manifest in versions.kept_manifests(self._db, self._key)}
        clean_tables(self._store, kept, timedelta(0))
        numbers = tuple(sorted(pending.number for pending in superseded))
        what = "versions, made again by the next refresh"
        self._places.append(ErasedPlace("versions not published", len(numbers), what, versions=numbers))

    def _purge_tables(self, kept: Sequence[Manifest], *, resumed: bool) -> list[Manifest]:
        purge = purge_tables(self._store, self._ids, kept, self._refusals(), resumed=resumed)
        failpoint("erase.purged")
        failures = erasures.record_purge(self._db, self._lease, purge.manifests, self._doc_key)
        failpoint("erase.recorded")
        freed = finish_purge(self._store, purge)
        for name, rows in purge.rows.items():
            self._add(f"table {name}", rows, "rows, over all versions kept")
        self._add("files of earlier table versions", freed, "bytes")
        self._add("failures", failures, "rows")
        return purge.manifests

    def _refusals(self) -> list[Refusal]:
        """Return the rows of `pages` that refuse the key from now on, for the sources that are still in the KB file."""
        sources = {
            document_id(source.name, self._doc_key): source.name
            for source in get_kb(self._db, self._key).read_spec(self._settings).sources
        }
        return [
            Refusal(each, sources[each], self._doc_key, ERASED, ERASED_MESSAGE) for each in self._ids if each in sources
        ]

    def _drop_leftovers(self) -> None:
        """Remove unfinished fetches and damaged files, since any of them may contain the document."""
        for place, files in remove_leftovers(self._store.paths).items():
            self._places.append(ErasedPlace(place, len(files), "files", files=tuple(files)))

    def _redact_raw(self) -> None:
        raw = self._store.paths.raw
        segments = segments_with_key(raw, self._doc_key)
        rows = sum(redact_rows(raw / name, positions) for name, positions in segments.items())
        self._places.append(ErasedPlace("raw segments", rows, "bodies", segments=tuple(sorted(segments))))

    def _forget_links(self) -> None:
        """Remove where the page leads to, which its text says; that other pages lead to it is theirs."""
        removed = sum(remove_rows(path, [self._doc_key]) for path in self._link_files())
        self._add("stored links", removed, "pages")

    def _link_files(self) -> Iterator[Path]:
        for source in get_kb(self._db, self._key).read_spec(self._settings).sources:
            yield self._store.paths.links(source.name)

    def _delete_vectors(self, kept: Sequence[Manifest]) -> None:
        """Delete every vector whose text no document of the tenant has any more.

        Not only the document's: its texts are not known once its chunks are purged, as they are when a killed erasure
        goes on. A text that other documents or KBs of the tenant have too keeps its vector.
        """
        for name, unused in self._unused_vectors(kept).items():
            removed = self._store.vectors.open(name).purge_rows("text_hash", unused)
            self._add(f"embedding cache {name}", removed, "vectors of texts that no document of the tenant has")

    def _unused_vectors(self, kept: Sequence[Manifest]) -> dict[str, list[str]]:
        return unused_vectors(self._store.vectors, VECTORS_PREFIX, self._chunks_of_tenant(kept))

    def _chunks_of_tenant(self, kept: Sequence[Manifest]) -> Iterator[LanceTable]:
        yield from chunk_tables(self._store, kept)
        for record in list_kbs(self._db):
            if record.key.tenant == self._key.tenant and record.key != self._key:
                other = KbStore(KbPaths(self._settings.data_dir, record.key))
                yield from chunk_tables(other, manifests_in_use(self._db, other, record.key, READER_GRACE))

    def _checks(self, kept: Sequence[Manifest]) -> Iterator[ErasureCheck]:
        """Look through every store once more."""
        for store, found in rows_left(self._store, self._ids, kept):
            yield ErasureCheck(store, found)
        segments = segments_with_key(self._store.paths.raw, self._doc_key)
        yield ErasureCheck("raw segments", sum(len(positions) for positions in segments.values()))
        stored = (read_rows(path, ["key"]).column("key").to_pylist() for path in self._link_files())
        yield ErasureCheck("stored links", sum(keys.count(self._doc_key) for keys in stored))
        for place, files in remove_leftovers(self._store.paths).items():
            yield ErasureCheck(place, len(files))
        for name, unused in self._unused_vectors(kept).items():
            yield ErasureCheck(f"embedding cache {name}, texts that no document has", len(unused))

    def _add(self, place: str, removed: int, what: str) -> None:
        self._places.append(ErasedPlace(place, removed, what))


def _owner() -> str:
    return f"erase-{uuid.uuid4().hex[:12]}"


def _ids_of(settings: Settings, db: Database, store: KbStore, key: KbKey, doc_key: str) -> list[str]:
    """Return the ids of the document in all places that have something of it; empty if none has."""
    found = find_documents(store, doc_key, versions.kept_manifests(db, key))
    if found or not segments_with_key(store.paths.raw, doc_key):
        return found
    # Only its bytes are left, of a version long gone: whichever source of today's file would fetch it.
    return [document_id(source.name, doc_key) for source in get_kb(db, key).read_spec(settings).sources]
