"""Ends the runs of dead workers: the lease, the refresh, the run, its pool slots.

Dagster does so only if the worker's code server still lives: it cannot check the default launcher's runs, and does not
know the worker of a run that was started without the launcher (`kb build`). A worker that has not begun its run yet
sends no heartbeat: such runs end by `run_monitoring.start_timeout_seconds`, and a worker that starts later skips them.
"""
# No `from __future__ import annotations`: Dagster reads the annotations of a sensor's parameters.

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs.heartbeats import (
    SILENT_S,
    WorkerState,
    database_time,
    get_heartbeat,
    give_up,
    judge,
    list_heartbeats,
    note_daemon,
)
from kb_pipeline.control.runs.refreshes import RefreshStatus, get_refresh
from kb_pipeline.defs.jobs import housekeeping, refresh_kb
from kb_pipeline.defs.lost_jobs import end_lost_jobs
from kb_pipeline.defs.partitions import PARTITION_TAG
from kb_pipeline.defs.resources import open_database
from kb_pipeline.errors import InvalidKey
from kb_pipeline.model import KbKey

logger = logging.getLogger(__name__)
_WORKING = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
Suspects = Mapping[str, float | None]
"""The runs whose workers were silent at the last check: run id to time of the last heartbeat."""


@dataclass(frozen=True, slots=True)
class Worker:
    """What is known of the process that executes a run."""

    run_id: str
    run: dg.DagsterRun | None
    state: WorkerState
    beat_at: float | None
    silent_s: float

    def describe(self) -> str:
        """Return the worker's state in words."""
        if self.state == "gone":
            return "the run's worker is dead: its process is gone"
        since = "its last sign of life" if self.beat_at is not None else "the run's start, without any sign of life"
        return f"the run's worker is taken for dead: {self.silent_s:.0f} s since {since}"


@dataclass(slots=True)
class Reaped:
    """The result of one check."""

    ended: list[str] = field(default_factory=list)
    suspects: dict[str, float | None] = field(default_factory=dict)


@dg.sensor(
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends runs whose worker is dead, so that their KB, their pool slots and their queue are free again.",
)
def reap_dead_runs(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """End the runs of dead workers; the cursor holds those that were silent at the last check."""
    suspects, db = json.loads(context.cursor) if context.cursor else {}, open_database()
    note_daemon(db)  # so that others see that it lives without opening Dagster's storage
    found = reap(context.instance, db, suspects)
    message = f"ended: {', '.join(found.ended)}" if found.ended else "every worker is alive"
    return dg.SensorResult(cursor=json.dumps(found.suspects), skip_reason=message)


def reap(instance: dg.DagsterInstance, db: Database, suspects: Suspects, silent_after_s: float = SILENT_S) -> Reaped:
    """End every run whose worker is gone, or silent now and at the last check.

    Call it again only after more than `heartbeats.BEAT_S`.
    """
    found = Reaped()
    for worker in list_workers(instance, db, silent_after_s):
        if worker.state == "silent" and suspects.get(worker.run_id, -1) != worker.beat_at:
            found.suspects[worker.run_id] = worker.beat_at
        elif worker.state != "alive" and _end_run(instance, db, worker):
            found.ended.append(worker.run_id)
    _free_orphaned_slots(instance, db)
    return found


def list_workers(instance: dg.DagsterInstance, db: Database, silent_after_s: float = SILENT_S) -> Iterator[Worker]:
    """Yield the workers of all runs that are executing, and of those that ended without being cleaned up."""
    now = database_time(db)
    heard = set()
    for beat in list_heartbeats(db):
        heard.add(beat.run_id)
        run, state = instance.get_run_by_id(beat.run_id), judge(beat, now, silent_after_s)
        if (run is None or run.is_finished) and now - beat.beat_at > silent_after_s:
            state = "gone"  # the process may still run, but not this run
        yield Worker(beat.run_id, run, state, beat.beat_at, now - beat.beat_at)
    for record in instance.get_run_records(dg.RunsFilter(statuses=_WORKING)):
        run = record.dagster_run
        if run.run_id not in heard and _is_ours(run) and record.start_time is not None:
            age = now - record.start_time
            # Twice the timeout: the worker is still loading, and holds neither lease nor slot.
            yield Worker(run.run_id, run, "silent" if age > 2 * silent_after_s else "alive", None, age)


def _is_ours(run: dg.DagsterRun) -> bool:
    """Return whether the run's worker sends heartbeats; workers of other code locations do not."""
    return run.job_name in (refresh_kb.name, housekeeping.name) or "kb/kb" in run.tags


def _end_run(instance: dg.DagsterInstance, db: Database, worker: Worker) -> bool:
    """End a worker's run and free its slots; return whether the run had to be ended."""
    try:
        if worker.beat_at is None and get_heartbeat(db, worker.run_id):
            return False  # it has just started
        was_cancelled = _was_cancelled(db, worker.run)
        ending: RefreshStatus = "cancelled" if was_cancelled else "failed"
        # Whether Dagster starts another run in its place is known once this one has failed; see lost_jobs.
        is_tried_again = not was_cancelled
        if not give_up(db, worker.run_id, worker.beat_at, worker.describe(), ending, is_tried_again=is_tried_again):
            return False
        # Read again: the run may have ended since, and its own result holds.
        run = instance.get_run_by_id(worker.run_id)
        is_working = run is not None and not run.is_finished
        if run is not None and is_working:
            (instance.report_run_canceled if was_cancelled else instance.report_run_failed)(run, worker.describe())
        instance.event_log_storage.free_concurrency_slots_for_run(worker.run_id)
        end_lost_jobs(instance, db)
    except Exception:
        logger.exception("run %s cannot be ended", worker.run_id)  # go on with the others
        return False
    return is_working


def _was_cancelled(db: Database, run: dg.DagsterRun | None) -> bool:
    """Return whether somebody has cancelled a run: in the web UI, or with Ctrl-C, for which its worker was killed."""
    if run is None or run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED):
        return run is not None
    try:
        row = get_refresh(db, KbKey.parse(run.tags.get(PARTITION_TAG, "")), run.run_id)
    except InvalidKey:
        return False
    return row is not None and row.status == "cancelled"


def _free_orphaned_slots(instance: dg.DagsterInstance, db: Database) -> None:
    """Free the slots of runs that have ended or were deleted and have no worker."""
    storage = instance.event_log_storage
    holders = storage.get_concurrency_run_ids() - {beat.run_id for beat in list_heartbeats(db)}
    if not holders:
        return
    living = instance.get_runs(dg.RunsFilter(run_ids=list(holders), statuses=NOT_FINISHED_STATUSES))
    for run_id in holders - {run.run_id for run in living}:
        storage.free_concurrency_slots_for_run(run_id)
