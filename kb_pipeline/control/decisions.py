"""What people decide about versions: to let a held one through, or to go back to an earlier one."""

from __future__ import annotations

import uuid
from typing import Any

from kb_pipeline.control import versions
from kb_pipeline.control.database import Database
from kb_pipeline.control.leases import hold_lease, release_lease
from kb_pipeline.control.refreshes import begin_refresh, end_refresh
from kb_pipeline.control.workspace import Workspace
from kb_pipeline.errors import UnknownVersion, UsageError
from kb_pipeline.model import KbKey
from kb_pipeline.settings import Settings
from kb_pipeline.storage import KbPaths
from kb_pipeline.tables import KbStore


def approve_version(settings: Settings, db: Database, key: KbKey, number: int) -> dict[str, Any]:
    """Publish a version that a check held; what is no matter of judgement is verified again.

    Raises:
        UnknownKb, UnknownVersion: there is none such.
        UsageError: it does not wait for approval.
        LeaseHeld: a run writes the KB.
        GateFailed: its data is not what it was when it was built.
    """
    status = _status_of(db, key, number)
    if status != "held":
        raise UsageError(f"{key}: version {number} is {status}; only held versions wait for approval")
    owner = f"approve-{uuid.uuid4().hex[:12]}"
    with hold_lease(db, key, owner) as lease:
        begin_refresh(db, key, owner)
        try:
            Workspace(settings, db, lease, owner).publish_held(number)
        except BaseException as error:
            end_refresh(db, key, owner, "failed", message=str(error))
            raise
        release_lease(db, lease)
    return {"kb": str(key), "version": number, "status": "published"}


def rollback_kb(settings: Settings, db: Database, key: KbKey, number: int) -> dict[str, Any]:
    """Make an earlier version live again: the pointer moves, nothing is fetched, embedded or copied.

    Raises:
        UnknownKb, NoLiveVersion, UnknownVersion, UsageError: see `versions.roll_back`.
        LeaseHeld: a run writes the KB and would publish over it.
        DamagedStore: the version cannot be read.
    """
    live = versions.live_manifest(db, key)["version"]
    if number == live:
        raise UsageError(f"{key}: version {number} is live already")
    manifest = versions.get_manifest(db, key, number)
    if _status_of(db, key, number) not in versions.SEARCHABLE:
        raise UnknownVersion(key, number)
    _open_tables(KbStore(KbPaths(settings.data_dir, key)), manifest)
    with hold_lease(db, key, f"rollback-{uuid.uuid4().hex[:12]}") as lease:
        before = versions.roll_back(db, lease, number)
        release_lease(db, lease)
    return {"kb": str(key), "version": number, "from": before, "counts": manifest["counts"]}


def _status_of(db: Database, key: KbKey, number: int) -> str:
    found = {row["version"]: str(row["status"]) for row in versions.list_versions(db, key)}
    if number not in found:
        versions.get_manifest(db, key, number)  # raises UnknownVersion
    return found[number]


def _open_tables(store: KbStore, manifest: dict[str, Any]) -> None:
    """Before readers are sent there: every table of the version is there and its keys can be read."""
    keys = {"pages": "page_id", "documents": "document_id", "chunks": "chunk_id", "index": "chunk_id"}
    for role, pin in manifest["tables"].items():
        store.tables.open(pin["name"], pin["version"]).narrow([keys[role]])
