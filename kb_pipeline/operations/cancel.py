"""Stops the refreshes of a KB that run or wait."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.kbs.catalog import get_kb
from kb_pipeline.control.runs.heartbeats import get_heartbeat, give_up, judge
from kb_pipeline.control.runs.jobs import JobRecord, ask_to_cancel, get_job
from kb_pipeline.control.runs.refreshes import cancel_refresh, get_refresh, latest_refresh
from kb_pipeline.control.runs.requests import withdraw
from kb_pipeline.model import KbKey, Record
from kb_pipeline.operations.orchestrator import Orchestrator
from kb_pipeline.processes import this_machine

WAIT_S = 60.0
"""How long a run may take to finish its requests in flight and to store what it has."""
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Cancellation(Record):
    """What was stopped."""

    kb: KbKey
    requests: int
    """Refreshes that were asked for and had not begun."""
    runs: tuple[str, ...]
    """Runs that had begun, or waited in the queue."""
    still_running: tuple[str, ...]
    """Those of them that had not ended yet when waiting for them was given up."""

    def told(self) -> Iterator[str]:
        """Yield what was done, a sentence each."""
        if not (self.requests or self.runs):
            yield "nothing runs or waits"
        if self.requests:
            yield f"{self.requests} waiting request{'s' * (self.requests > 1)} withdrawn"
        for run in self.runs:
            if run in self.still_running:
                yield f"run {run} was told to end and has not yet; kb status {self.kb} shows when"
            else:
                yield f"run {run} is cancelled; what it fetched is kept, and the live version stays"


def cancel_refreshes(db: Database, orchestrator: Orchestrator, key: KbKey, wait_s: float = WAIT_S) -> Cancellation:
    """Withdraw what waits, tell what runs to end, and wait until it has; raise UnknownKb.

    A worker on this machine is interrupted as by Ctrl-C, others by the orchestrator.
    """
    get_kb(db, key)
    withdrawn = withdraw(db, key)
    runs = orchestrator.unfinished_runs(key)
    newest = latest_refresh(db, key)
    if newest is not None and newest.status == "running" and newest.run_id not in runs:
        give_up(db, newest.run_id, None, "cancelled; its worker was gone", "cancelled")
    for run_id in runs:
        if not _interrupt_here(db, run_id):
            orchestrator.cancel_run(run_id)
    until = time.monotonic() + wait_s
    while (left := _unfinished(db, orchestrator, key, runs)) and time.monotonic() < until:
        time.sleep(_POLL_S)
    return Cancellation(key, withdrawn, tuple(runs), tuple(left))


def cancel_job(db: Database, orchestrator: Orchestrator, job: JobRecord, actor: str) -> JobRecord:
    """Withdraw a job that waits, or tell its run to end, and return it as it is then, without waiting.

    One that has ended stays as it is; one that was told to end already is told again after a minute only.

    Args:
        db: the control plane.
        orchestrator: asked only for a run that is no process of this machine.
        job: the job.
        actor: who cancels it.
    """
    if job.run_id is None:
        withdraw(db, job.kb, job.id)
    elif ask_to_cancel(db, job.kb, job.id, actor) and not _interrupt_here(db, job.run_id):
        orchestrator.cancel_run(job.run_id)
        if job.state == "queued" and job.run_id not in orchestrator.unfinished_runs(job.kb):
            cancel_refresh(db, job.kb, job.run_id, datetime.now(UTC))
    return get_job(db, job.kb.tenant, job.id)


def _interrupt_here(db: Database, run_id: str) -> bool:
    """Interrupt the worker of a run if it is a process of this machine; return whether it was."""
    beat = get_heartbeat(db, run_id)
    if beat is None or not beat.process or beat.machine != this_machine() or judge(beat, beat.beat_at) != "alive":
        return False
    with suppress(ProcessLookupError):
        os.kill(int(beat.process.partition("/")[0]), signal.SIGINT)
    return True


def _unfinished(db: Database, orchestrator: Orchestrator, key: KbKey, runs: list[str]) -> list[str]:
    left = set(orchestrator.unfinished_runs(key))
    recorded = {run_id: get_refresh(db, key, run_id) for run_id in runs}
    return [run for run in runs if run in left or ((row := recorded[run]) is not None and row.status == "running")]
