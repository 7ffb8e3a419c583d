"""Refreshes a KB to ask again for what failed, for all of it or for what is named."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs.failures import FailureRecord, list_failures
from kb_pipeline.errors import KbError, UsageError
from kb_pipeline.fetch.registry import SOURCE_TYPES
from kb_pipeline.model import KbKey, document_id
from kb_pipeline.operations.launch import ProgressListener, RefreshResult, run_refresh
from kb_pipeline.settings import Settings
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.stage_tables import PAGES
from kb_pipeline.store.table import sql_in


@dataclass(frozen=True, slots=True)
class RetryResult:
    """The result of trying failures again."""

    refresh: RefreshResult | None
    """The refresh that tried them; None if there were no failures."""
    left: list[FailureRecord]
    """The failures that are left, of the given ones or of all."""


def retry_failures(
    settings: Settings, db: Database, key: KbKey, names: Sequence[str], progress: ProgressListener | None = None
) -> RetryResult:
    """Refresh the KB, asking at once for what is named, however often it failed or was refused, and recently.

    Args:
        settings: of the installation.
        db: its control plane.
        key: the KB, which exists.
        names: ids of failures, or keys that have no document; everything that failed or was refused if empty.
        progress: called with the state of the refresh, again and again.

    Raises:
        UsageError: a name is neither that of a failure nor a known key.
        KbError: the refresh itself failed.
        RefreshCancelled: Ctrl-C.
    """
    failed = list(list_failures(db, key))
    wanted = _named(settings, key, names, failed) if names else {_id(row) for row in failed}
    if not wanted:
        return RetryResult(None, [])
    result = run_refresh(settings, db, key, progress, retry=not names, retry_ids=wanted if names else ())
    if result.status == "failed":
        raise KbError(result.message)
    return RetryResult(result, [row for row in list_failures(db, key) if _id(row) in wanted])


def _named(settings: Settings, key: KbKey, names: Sequence[str], failed: Collection[FailureRecord]) -> set[str]:
    """Return the ids of the keys that are named."""
    by_failure = {row.id: _id(row) for row in failed}
    found = {name: {by_failure[name]} for name in names if name in by_failure}
    for name, row_id in _known(settings, key, [name for name in names if name not in found]):
        found.setdefault(name, set()).add(row_id)
    if unknown := [name for name in names if name not in found]:
        raise UsageError(
            f"{key}: no failure has the id, and no source is known to have the key: {', '.join(unknown)}; failures are "
            f"listed by: kb failures {key}; what would become of an address says: kb explain {key} URL"
        )
    return set().union(*found.values())


def _known(settings: Settings, key: KbKey, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the names that are known keys, also in another spelling, each with the id of that key in its source."""
    store = KbStore(KbPaths(settings.data_dir, key))
    spelled = {spelling: name for name in names for spelling in _spellings(name)}
    if not spelled or not store.has_table(PAGES):
        return
    rows = store.tables.open(PAGES).read_columns(["page_id", "key"], sql_in("key", spelled))
    yield from ((spelled[known], page_id) for page_id, known in rows.iter_rows())


def _spellings(name: str) -> Iterator[str]:
    """Yield a name as each type of source spells its keys, and as it is."""
    yield from (spelling for kind in SOURCE_TYPES.values() if (spelling := kind.spell(name)) is not None)
    yield name


def _id(row: FailureRecord) -> str:
    return document_id(row.source, row.key)
