"""Goes back to an earlier version of a KB."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from kb_pipeline.control.coordination.leases import hold_lease, release_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs import versions
from kb_pipeline.errors import UnknownVersion, UsageError
from kb_pipeline.model import JsonObject, KbKey, Record
from kb_pipeline.settings import Settings
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Counts, Manifest
from kb_pipeline.store.paths import KbPaths


@dataclass(frozen=True, slots=True)
class Rollback(Record):
    """An earlier version that is live again."""

    kb: KbKey
    version: int
    rolled_back: int
    """The version that was live before; `from` in JSON."""
    counts: Counts
    """Of the version that is live now."""

    def as_json(self) -> JsonObject:
        """Return the result as `kb rollback --json` prints it."""
        return {
            "kb": str(self.kb),
            "version": self.version,
            "from": self.rolled_back,
            "counts": self.counts.as_json(),
        }


def rollback_kb(settings: Settings, db: Database, key: KbKey, number: int) -> Rollback:
    """Make an earlier version live again by moving the pointer; nothing is fetched, embedded or copied.

    Raises:
        UnknownKb, NoLiveVersion, UnknownVersion, UsageError: see `versions.roll_back`.
        LeaseHeld: a run writes the KB and would publish over it.
        DamagedStore: the version cannot be read.
    """
    live = versions.live_number(db, key)
    if number == live:
        raise UsageError(f"{key}: version {number} is live already")
    manifest = versions.get_manifest(db, key, number)
    if versions.status_of(db, key, number) not in versions.SEARCHABLE:
        raise UnknownVersion(key, number)
    _open_tables(KbStore(KbPaths(settings.data_dir, key)), manifest)
    with hold_lease(db, key, f"rollback-{uuid.uuid4().hex[:12]}") as lease:
        before = versions.roll_back(db, lease, number, settings.actor)
        release_lease(db, lease)
    return Rollback(key, number, before, manifest.counts)


def _open_tables(store: KbStore, manifest: Manifest) -> None:
    """Open every table of the version and read its keys, before readers get it; raises DamagedStore."""
    for pin in manifest.tables.values():
        table = store.tables.open(pin.name, pin.version)
        table.read_columns([table.key])
