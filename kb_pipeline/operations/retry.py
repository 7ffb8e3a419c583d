"""Refreshes a KB for the sake of its failures."""

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
    """What trying failures again has given."""

    refresh: RefreshResult | None
    """The refresh that tried them; None where nothing had failed."""
    left: list[FailureRecord]
    """Those that are left, of the given ones or of all."""


def retry_failures(
    settings: Settings, db: Database, key: KbKey, ids: Sequence[str], progress: ProgressListener | None = None
) -> RetryResult:
    """Refresh the KB, which tries every failure again.

    Args:
        settings: of the installation.
        db: its control plane.
        key: the KB, which exists.
        ids: the failures that are asked after; without any, all.
        progress: called with how far the refresh is.

    Raises:
        UsageError: an id is no failure's.
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
