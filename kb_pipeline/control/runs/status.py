"""Tells how a KB stands: its live version, what runs now, how the last refresh ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kb_pipeline.account import Account
from kb_pipeline.control.coordination.leases import current_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.catalog import get_kb
from kb_pipeline.control.kbs.versions import live_manifest
from kb_pipeline.control.runs.refreshes import RefreshRecord, StageInProgress, latest_refresh, newest_account
from kb_pipeline.control.runs.requests import RequestRecord, waiting_of
from kb_pipeline.errors import NoLiveVersion
from kb_pipeline.model import KbKey, Record
from kb_pipeline.store.manifest import Manifest


@dataclass(frozen=True, slots=True)
class KbStatus(Record):
    """How a KB stands, as `kb status` shows it."""

    kb: KbKey
    status: str
    """`new` before the first refresh, `running`, else how the last refresh ended; `interrupted` when its worker holds
    no lease any more and recorded no end."""
    live_version: int | None
    """None before the first one is published."""
    documents: int
    chunks: int
    languages: Mapping[str, int]
    """Documents of the live version by language."""
    model: str | None
    """Name of the embedding model of the live version."""
    running: StageInProgress | None
    """How far the refresh is that runs now."""
    requested: tuple[RequestRecord, ...]
    """Refreshes that were asked for and wait, oldest first."""
    last_run: RefreshRecord | None
    """The newest refresh, whether it has ended or not."""
    account: Account | None
    """What became of every known key by the newest refresh that came so far; None before the first one."""


def describe_kb(db: Database, key: KbKey) -> KbStatus:
    """Return how a KB stands; raises UnknownKb."""
    get_kb(db, key)
    live = _live(db, key)
    last = _last_run(db, key)
    return KbStatus(
        kb=key,
        status="new" if last is None else last.status,
        live_version=live.version if live else None,
        documents=live.counts.documents if live else 0,
        chunks=live.counts.chunks if live else 0,
        languages=live.content.languages if live else {},
        model=live.model.name if live else None,
        running=last.progress if last else None,
        requested=tuple(waiting_of(db, key)),
        last_run=last,
        account=newest_account(db, key) or (live.account if live else None),
    )


def _live(db: Database, key: KbKey) -> Manifest | None:
    """Return the live version's manifest; None before the first one is published."""
    try:
        return live_manifest(db, key)
    except NoLiveVersion:
        return None


def _last_run(db: Database, key: KbKey) -> RefreshRecord | None:
    """Return the newest refresh; one that claims to run and holds no lease is `interrupted`."""
    last = latest_refresh(db, key)
    if last is None or last.status != "running":
        return last
    lease = current_lease(db, key)
    is_running = lease is not None and lease.owner == last.run_id
    return last if is_running else replace(last, status="interrupted")
