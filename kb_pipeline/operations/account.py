"""Gives callers the account of a KB, and every key that has no document of its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from kb_pipeline.account import Account
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs.failures import failure_id, first_seen
from kb_pipeline.control.runs.refreshes import newest_account, newest_report
from kb_pipeline.control.tenancy.tenants import require_active
from kb_pipeline.fetch.journal_state import Checks
from kb_pipeline.model import KbKey
from kb_pipeline.operations.key_fates import LeftOutKey, list_left_out, take_account
from kb_pipeline.operations.left_out_reasons import require_reason
from kb_pipeline.operations.readers import Readers
from kb_pipeline.settings import Settings
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import DOCUMENTS, PAGES

if TYPE_CHECKING:
    from kb_pipeline.store.table import LanceTable


def account_of(settings: Settings, db: Database, readers: Readers, key: KbKey, as_of: str | None) -> Account:
    """Return what became of every key that was known to the newest refresh, or to a version.

    Args:
        settings: of the installation.
        db: its control plane.
        readers: of its versions.
        key: the KB.
        as_of: which version; None for the newest refresh, whether or not it published one.

    Raises:
        NoLiveVersion, UnknownVersion, TenantInactive: there is none such.
        DamagedStore: the tables cannot be read.
    """
    require_active(db, key.tenant)
    if as_of is not None:
        version = readers.open(key, as_of)
        return version.manifest.account or take_account(version.table(PAGES), version.table(DOCUMENTS), {})
    if (account := newest_account(db, key)) is not None:
        return account
    tables = _heads(settings, key)
    return take_account(*tables, newest_report(db, key, "fetch")) if tables else Account(())


def left_out_of(
    settings: Settings,
    db: Database,
    readers: Readers,
    key: KbKey,
    as_of: str | None,
    *,
    reason: str | None = None,
    source: str | None = None,
) -> Iterator[LeftOutKey]:
    """Yield every key that has no document of its own; see `account_of` for what is read.

    Args:
        settings: of the installation.
        db: its control plane.
        readers: of its versions.
        key: the KB.
        as_of: which version; None for the newest refresh.
        reason: only those with this reason code.
        source: only those of this source.

    Raises:
        UsageError: there is no such reason code.
    """
    require_active(db, key.tenant)
    if reason is not None:
        require_reason(reason)
    if as_of is not None:
        version = readers.open(key, as_of)
        return list_left_out(version.table(PAGES), version.table(DOCUMENTS), reason=reason, source=source)
    tables = _heads(settings, key)
    return list_left_out(*tables, _Remembered(settings, db, key), reason, source) if tables else iter(())


class _Remembered:
    """What the control plane and the files beside the tables remember of the keys of a KB, each read once."""

    def __init__(self, settings: Settings, db: Database, key: KbKey) -> None:
        self._paths = KbPaths(settings.data_dir, key)
        self._first_seen = first_seen(db, key)
        self._refused: dict[str, dict[str, tuple[datetime, int]]] = {}

    def since(self, stage: str, source: str, key: str) -> datetime | None:
        """Return when a key was first left out at a stage."""
        return self._first_seen.get(failure_id(stage, source, key))

    def refused(self, source: str, key: str) -> tuple[datetime, int] | None:
        """Return when a server last refused to give a key, and how often in a row it did."""
        if source not in self._refused:
            checks = Checks(self._paths.checks(source)).read().drop_nulls()
            rows = checks.filter(checks["refusals"] > 0).select("key", "checked_at", "refusals").iter_rows()
            self._refused[source] = {name: (asked_at, times) for name, asked_at, times in rows}
        return self._refused[source].get(key)


def _heads(settings: Settings, key: KbKey) -> tuple[LanceTable, LanceTable | None] | None:
    """Open the heads of both tables; None before the first refresh, no documents before they were first cleaned."""
    store = KbStore(KbPaths(settings.data_dir, key))
    if not store.has_table(PAGES):
        return None
    return store.tables.open(PAGES), store.tables.open(DOCUMENTS) if store.has_table(DOCUMENTS) else None
