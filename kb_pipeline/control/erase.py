"""Erases one document of a KB from everything this home stores of it, and proves it with a receipt."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from kb_pipeline.control import erasures, versions
from kb_pipeline.control.catalogue import get_kb, list_kbs
from kb_pipeline.control.database import Database
from kb_pipeline.control.leases import HeldLease, check_lease, hold_lease, release_lease
from kb_pipeline.errors import DamagedStore
from kb_pipeline.index.erase import (
    find_documents,
    keys_with_the_same_bytes,
    purge_tables,
    rows_left,
    settle_purge,
    texts_in_use,
    texts_of,
)
from kb_pipeline.index.upkeep import clean_tables
from kb_pipeline.model import KbKey, document_id
from kb_pipeline.settings import Settings
from kb_pipeline.storage import KbPaths, blank_rows, segments_with_key
from kb_pipeline.tables import KbStore


def erase_document(settings: Settings, db: Database, key: KbKey, doc_key: str) -> dict[str, Any]:
    """Remove a document from the live and every kept version, raw bytes, caches and indexes, for good.

    It is not fetched again. Killed on the way, the same call goes on; done twice, it gives the kept receipt.

    Returns:
        The receipt: every place that held something of it, what was removed there, and that nothing is left.

    Raises:
        UnknownKb, UnknownDocument: there is none such, and none was erased.
        LeaseHeld: a run writes the KB.
        DamagedStore: something of it was found after the removal.
    """
    get_kb(db, key)
    store = KbStore(KbPaths(settings.data_dir, key))
    if not _ids_of(db, store, key, doc_key):
        return erasures.receipt_of(db, key, doc_key)
    with hold_lease(db, key, f"erase-{uuid.uuid4().hex[:12]}") as lease:
        store = KbStore(KbPaths(settings.data_dir, key), lambda: check_lease(db, lease))
        receipt = _Erasing(settings, db, lease, store, doc_key).run()
        release_lease(db, lease)
    return receipt


class _Erasing:
    """One erasure, place by place."""

    def __init__(self, settings: Settings, db: Database, lease: HeldLease, store: KbStore, doc_key: str) -> None:
        self._settings, self._db, self._lease, self._store = settings, db, lease, store
        self._key, self._doc_key = lease.key, doc_key
        self._ids = _ids_of(db, store, self._key, doc_key)
        self._places: list[dict[str, Any]] = []

    def run(self) -> dict[str, Any]:
        """Do all of it; the receipt says `unfinished` until everything has been looked through once more."""
        self._give_up_pending()
        kept = versions.kept_manifests(self._db, self._key)
        receipt: dict[str, Any] = {
            "kb": str(self._key),
            "key": self._doc_key,
            "document_ids": self._ids,
            "erased_at": datetime.now(UTC).isoformat(),
            "by": self._lease.owner,
            "versions": [manifest["version"] for manifest in kept],
            "same_content_at": keys_with_the_same_bytes(self._store, self._ids, kept),
            "status": "unfinished",
        }
        erasures.block_documents(self._db, self._lease, self._ids, receipt)
        texts = texts_of(self._store, self._ids, kept)
        kept = self._purge_tables(kept)
        self._drop_journals()
        self._blank_raw()
        self._forget_vectors(texts, kept)
        checks = list(self._checks(texts, kept))
        if left := [check for check in checks if check["found"]]:
            raise DamagedStore(f"{self._key}, {self._doc_key}", f"still found after it was erased: {left}")
        receipt |= {"places": self._places, "checks": checks, "status": "erased"}
        erasures.block_documents(self._db, self._lease, self._ids, receipt)
        return receipt

    def _give_up_pending(self) -> None:
        """What waits for approval is made again by the next refresh; what was pruned gets no grace."""
        for number, _, manifest in versions.pending_versions(self._db, self._key):
            versions.settle_version(self._db, self._lease, number, "superseded", manifest)
        kept = {manifest["version"] for manifest in versions.kept_manifests(self._db, self._key)}
        clean_tables(self._store, kept, timedelta(0))

    def _purge_tables(self, kept: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        purge = purge_tables(self._store, self._ids, kept)
        failures = erasures.record_purge(self._db, self._lease, purge.manifests, self._doc_key)
        freed = settle_purge(self._store, purge)
        self._places += [
            {"place": f"table {name}", "removed": rows, "what": "rows, over all versions kept"}
            for name, rows in purge.rows.items()
        ]
        self._places.append({"place": "files of earlier table versions", "removed": freed, "what": "bytes"})
        self._places.append({"place": "failures", "removed": failures, "what": "rows"})
        return purge.manifests

    def _drop_journals(self) -> None:
        journals = self._store.paths.root / "journal"
        count = sum(1 for path in journals.glob("*/*.parquet"))
        shutil.rmtree(journals, ignore_errors=True)  # an unfinished fetch begins anew: its bytes may hold the document
        self._places.append({"place": "unfinished fetches", "removed": count, "what": "segments"})

    def _blank_raw(self) -> None:
        segments = segments_with_key(self._store.paths.raw, self._doc_key)
        rows = sum(blank_rows(self._store.paths.raw / name, positions) for name, positions in segments.items())
        self._places.append({"place": "raw segments", "removed": rows, "what": "bodies", "segments": sorted(segments)})

    def _forget_vectors(self, texts: set[str], kept: Sequence[Mapping[str, Any]]) -> None:
        """Other documents and other KBs of the tenant may have the same text: its vector is then theirs."""
        gone = sorted(texts - self._texts_in_use(texts, kept))
        for name in self._store.vectors.names("model_"):
            removed = self._store.vectors.open(name).forget("text_hash", gone)
            self._places.append({"place": f"embedding cache {name}", "removed": removed, "what": "vectors"})
        self._places.append(
            {"place": "embedding cache", "removed": 0, "kept": len(texts) - len(gone), "what": "texts others have too"}
        )

    def _texts_in_use(self, texts: set[str], kept: Sequence[Mapping[str, Any]]) -> set[str]:
        used = texts_in_use(self._store, kept, texts)
        for record in list_kbs(self._db):
            if record.key.tenant == self._key.tenant and record.key != self._key:
                other = KbStore(KbPaths(self._settings.data_dir, record.key))
                used |= texts_in_use(other, versions.kept_manifests(self._db, record.key), texts)
        return used

    def _checks(self, texts: set[str], kept: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Look through every store once more."""
        for name, rows in rows_left(self._store, self._ids, kept):
            yield {"store": f"table {name}, head and versions kept", "found": rows}
        segments = segments_with_key(self._store.paths.raw, self._doc_key)
        yield {"store": "raw segments", "found": sum(len(positions) for positions in segments.values())}
        gone = sorted(texts - self._texts_in_use(texts, kept))
        for name in self._store.vectors.names("model_"):
            found = self._store.vectors.open(name).narrow(["text_hash"])["text_hash"].is_in(gone).sum()
            yield {"store": f"embedding cache {name}", "found": int(found)}


def _ids_of(db: Database, store: KbStore, key: KbKey, doc_key: str) -> list[str]:
    """The ids of the document wherever something of it is; empty when there is nothing."""
    found = find_documents(store, doc_key, versions.kept_manifests(db, key))
    if found or not segments_with_key(store.paths.raw, doc_key):
        return found
    # Only its bytes are left, of a version long gone: whichever source of today's file would fetch it.
    return [document_id(source.name, doc_key) for source in get_kb(db, key).spec.sources]
