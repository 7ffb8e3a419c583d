"""`kb retry`: a refresh that is about failures."""

from __future__ import annotations

from collections.abc import Sequence

from kb_pipeline.cli.build import run_refresh
from kb_pipeline.cli.output import out, print_failures, warn
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.catalog import get_kb
from kb_pipeline.control.runs.failures import FailureRecord, list_failures
from kb_pipeline.errors import KbError, UsageError
from kb_pipeline.model import KbKey
from kb_pipeline.settings import Settings


def retry_failures(settings: Settings, db: Database, key: KbKey, ids: Sequence[str]) -> list[FailureRecord]:
    """Refresh the KB, which tries every failure again; returns those that are left, of the given ones or of all.

    Raises:
        UnknownKb: there is none such.
        UsageError: an id is no failure's.
        KbError: the refresh itself failed.
    """
    get_kb(db, key)
    wanted = set(ids) or {row.id for row in list_failures(db, key)}
    if unknown := wanted - {row.id for row in list_failures(db, key)}:
        raise UsageError(f"{key}: no such failure: {', '.join(sorted(unknown))}; list them with: kb failures {key}")
    if not wanted:
        return []
    result = run_refresh(settings, db, key, "retry")
    if result["status"] == "failed":
        raise KbError(result["message"])
    if result["status"] in ("held", "snoozed"):
        warn(result["message"])
    return [row for row in list_failures(db, key) if row.id in wanted]


def print_left(rows: Sequence[FailureRecord]) -> None:
    """What is left, for people."""
    if not rows:
        out.print("no failure is left")
        return
    print_failures(rows)
