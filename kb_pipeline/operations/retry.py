"""Refreshes a KB to try its failures again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs.failures import FailureRecord, list_failures
from kb_pipeline.errors import KbError, UsageError
from kb_pipeline.model import KbKey
from kb_pipeline.operations.launch import ProgressListener, RefreshResult, run_refresh
from kb_pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class RetryResult:
    """The result of trying failures again."""

    refresh: RefreshResult | None
    """The refresh that tried them; None if there were no failures."""
    left: list[FailureRecord]
    """The failures that are left, of the given ones or of all."""


def retry_failures(
    settings: Settings, db: Database, key: KbKey, ids: Sequence[str], progress: ProgressListener | None = None
) -> RetryResult:
    """Refresh the KB, which tries every failure again.

    Args:
        settings: of the installation.
        db: its control plane.
        key: the KB, which exists.
        ids: the failures to report on; all if empty.
        progress: called with the state of the refresh, again and again.

    Raises:
        UsageError: an id is not that of a failure.
        KbError: the refresh itself failed.
    """
    known = {row.id for row in list_failures(db, key)}
    wanted = set(ids) or known
    if unknown := wanted - known:
        raise UsageError(f"{key}: no such failure: {', '.join(sorted(unknown))}; list them with: kb failures {key}")
    if not wanted:
        return RetryResult(None, [])
    result = run_refresh(settings, db, key, progress, retry=True)
    if result.status == "failed":
        raise KbError(result.message)
    return RetryResult(result, [row for row in list_failures(db, key) if row.id in wanted])
