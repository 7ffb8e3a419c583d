"""Ends the jobs of runs of which nothing more comes, and lets those go on whose lost run Dagster starts again."""

from __future__ import annotations

import time

import dagster as dg
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs.jobs import list_open_ended, move_to_run
from kb_pipeline.control.runs.refreshes import RefreshStatus, end_lost_refresh
from kb_pipeline.defs.run_log import DagsterRunLog

_RETRY_WITHIN_S = 600.0
"""Without the daemon, or with a code location that is gone, no run takes the place of a lost one."""


def end_lost_jobs(instance: dg.DagsterInstance, db: Database) -> None:
    """End every job whose run has ended, was taken out of the queue or was deleted without recording an end."""
    for key, run_id in list_open_ended(db):
        record = next(iter(instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))), None)
        run = record.dagster_run if record else None
        if run is not None and not run.is_finished:
            continue  # it waits in the queue, or has just begun
        if run is not None and (following := run.tags.get(AUTO_RETRY_RUN_ID_TAG)) is not None:
            move_to_run(db, key, run_id, following)
        elif run is None or record is None or not _is_retried(run, record.end_time):
            was_cancelled = run is not None and run.status == dg.DagsterRunStatus.CANCELED
            status: RefreshStatus = "cancelled" if was_cancelled else "failed"
            end_lost_refresh(db, key, run_id, status, "cancelled" if was_cancelled else _reason(instance, run_id))


def _reason(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return the last error of a run that recorded no end, as its log tells it."""
    errors = (line.message for line in reversed(DagsterRunLog(instance, run_id).read()) if line.level == "error")
    return next(errors, f"run {run_id} ended before it recorded anything")


def _is_retried(run: dg.DagsterRun, ended_at: float | None) -> bool:
    """Return whether Dagster will start another run in the place of this one: only those that it launched itself."""
    if run.tags.get(WILL_RETRY_TAG) != "true" or run.remote_job_origin is None:
        return False
    return ended_at is not None and time.time() - ended_at < _RETRY_WITHIN_S
