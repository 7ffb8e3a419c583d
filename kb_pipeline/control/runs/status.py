"""How a KB stands: its live version, what runs now, how the last refresh ended."""

from __future__ import annotations

from typing import Any

from kb_pipeline.control.coordination.leases import current_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Refresh
from kb_pipeline.control.kbs.catalog import get_kb
from kb_pipeline.control.kbs.versions import live_manifest
from kb_pipeline.control.runs.refreshes import describe_running, latest_refresh
from kb_pipeline.control.runs.requests import waiting_of
from kb_pipeline.errors import NoLiveVersion
from kb_pipeline.model import KbKey


def describe_kb(db: Database, key: KbKey) -> dict[str, Any]:
    """What `kb status` prints; raises UnknownKb.

    `status` is `new` before the first refresh, `running`, else how the last refresh ended; `interrupted` when its
    worker holds no lease any more and left no word.
    """
    get_kb(db, key)
    try:
        live: dict[str, Any] = live_manifest(db, key)
    except NoLiveVersion:
        live = {}
    row = latest_refresh(db, key)
    lease = current_lease(db, key)
    is_running = row is not None and row.status == "running" and lease is not None and lease.owner == row.run_id
    return {
        "kb": str(key),
        "status": _status(row, is_running),
        "live_version": live.get("version"),
        "documents": live.get("counts", {}).get("documents", 0),
        "chunks": live.get("counts", {}).get("chunks", 0),
        "languages": live.get("languages", {}),
        "model": live.get("model", {}).get("name"),
        "running": describe_running(row) if row is not None and is_running else None,
        "requested": waiting_of(db, key),
        "last_run": None if row is None else _last_run(row, is_running),
    }


def _status(row: Refresh | None, is_running: bool) -> str:
    if row is None:
        return "new"
    if row.status == "running" and not is_running:
        return "interrupted"
    return row.status


def _last_run(row: Refresh, is_running: bool) -> dict[str, Any]:
    return {
        "run_id": row.run_id,
        "status": _status(row, is_running),
        "version": row.version,
        "message": row.message,
        "started_at": row.started_at.isoformat(),
        "ended_at": row.ended_at.isoformat() if row.ended_at else None,
        "stages": row.stages,
    }
