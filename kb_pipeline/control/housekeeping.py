"""Frees what superseded versions and crashed runs leave behind."""

from __future__ import annotations

from datetime import timedelta

from kb_pipeline.control.catalogue import list_kbs
from kb_pipeline.control.database import Database
from kb_pipeline.control.leases import acquire_lease, release_lease
from kb_pipeline.control.workspace import prune_versions
from kb_pipeline.errors import LeaseHeld
from kb_pipeline.model import KbKey
from kb_pipeline.settings import Settings
from kb_pipeline.storage import KbPaths
from kb_pipeline.tables import CHUNKS, DOCUMENTS, PAGES, KbStore

_READER_GRACE = timedelta(hours=1)
"""No reader holds a version longer after it has been superseded."""


def tidy_all(settings: Settings, db: Database, run_id: str) -> dict[str, int]:
    """Tidy every KB that nobody writes; returns the bytes freed of each."""
    freed = {}
    for kb in list_kbs(db):
        try:
            freed[str(kb.key)] = tidy_kb(settings, db, kb.key, run_id, kb.spec.retention.versions)
        except LeaseHeld:
            continue  # being written: the next night will do
    return freed


def tidy_kb(settings: Settings, db: Database, key: KbKey, run_id: str, keep: int) -> int:
    """Prune versions beyond `keep` and clean every table of what no tag holds; returns the bytes freed."""
    lease = acquire_lease(db, key, run_id)
    try:
        store = KbStore(KbPaths(settings.data_dir, key))
        prune_versions(db, store, lease, keep)
        names = [PAGES, DOCUMENTS, CHUNKS, *(p.stem for p in store.paths.lance.glob("index_*.lance"))]
        return sum(store.tables.open(name).cleanup(_READER_GRACE) for name in names if store.tables.exists(name))
    finally:
        release_lease(db, lease)
