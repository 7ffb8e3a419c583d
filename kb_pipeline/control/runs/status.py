"""Tells how a KB stands: its live version, what runs now, how the last refresh ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from kb_pipeline.account import Account
from kb_pipeline.control.coordination.leases import current_lease
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.catalog import KbRecord, get_kb
from kb_pipeline.control.kbs.versions import live_manifest, newest_held
from kb_pipeline.control.runs.failures import count_failures
from kb_pipeline.control.runs.overview import next_refresh
from kb_pipeline.control.runs.refreshes import (
    RefreshRecord,
    StageInProgress,
    latest_refresh,
    newest_account,
    status_with_lease,
)
from kb_pipeline.control.runs.requests import RequestRecord, waiting_of
from kb_pipeline.control.tenancy.tenants import is_active
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
    held_version: int | None
    """The newest version that waits for approval, if any."""
    held_because: str | None
    """Why it waits: what its checks found."""
    failures: int
    """Keys that could not be turned into text."""
    schedule: Schedule | None
    """When it is refreshed by itself; None for never."""
    account: Account | None
    """What became of every known key by the newest refresh that came so far; None before the first one."""


@dataclass(frozen=True, slots=True)
class Schedule(Record):
    """When a KB is refreshed by itself."""

    cron: str
    timezone: str
    next_refresh_at: datetime | None
    """None while its tenant is not active; when a quota renews, if that is what stopped it."""


def describe_kb(db: Database, key: KbKey) -> KbStatus:
    """Return how a KB stands; raises UnknownKb."""
    kb = get_kb(db, key)
    held = newest_held(db, key)
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
        held_version=held.number if held else None,
        held_because=_reasons(held.manifest) if held else None,
        failures=count_failures(db, key),
        schedule=_schedule(db, kb),
    )


def _schedule(db: Database, kb: KbRecord) -> Schedule | None:
    if kb.cron is None:
        return None
    following = next_refresh(kb.cron, kb.timezone, kb.snoozed_until) if is_active(db, kb.key.tenant) else None
    return Schedule(kb.cron, kb.timezone, following)


def _reasons(manifest: Manifest | None) -> str | None:
    """Return what the checks of a held version found, in their words."""
    gates = manifest.gates if manifest else {}
    return "; ".join(f"{name}: {gate.message}" for name, gate in gates.items() if not gate.passed) or None


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
    return replace(last, status=status_with_lease(last.status, last.run_id, lease.owner if lease else None))
