"""How every refresh goes and went: progress while it runs, stage reports, the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from kb_pipeline.account import Account
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Job, Refresh
from kb_pipeline.control.flags.registry import KNOWN_FLAGS, FlagValue
from kb_pipeline.control.metering import ledger
from kb_pipeline.control.runs.job_events import (
    add_event,
    add_stage_events,
    end_job,
    lock_job,
    percent_of,
    progress_interval_s,
)
from kb_pipeline.errors import JobWithdrawn
from kb_pipeline.interrupts import deferred_interrupts
from kb_pipeline.model import JsonObject, KbKey, Record, StageReport

RefreshStatus = Literal[
    "running", "ready", "ready_with_warnings", "unchanged", "held", "failed", "cancelled", "snoozed", "partial"
]
_WITHOUT_RESULT = ("failed", "cancelled")
"""What is recorded only of a refresh that has not ended otherwise: an interrupt may come after it was published."""
_PROGRESS_INTERVAL_S = 0.5
_LOOKED_THROUGH = 20
"""How many refreshes are looked through for the report of a stage: those that failed before it have none."""


@dataclass(frozen=True, slots=True)
class StageInProgress(Record):
    """How far a refresh that runs now is."""

    stage: str | None
    """None between two stages."""
    done: int
    total: int | None
    """Units of the stage's work; None while unknown."""
    eta_s: float | None
    """Seconds that the stage will still take at its pace so far."""


@dataclass(frozen=True, slots=True)
class RefreshRecord(Record):
    """One run over a KB and how it ended."""

    run_id: str
    status: str
    """running, ready, ready_with_warnings, unchanged, held, failed, cancelled, snoozed or partial; of a KB's last
    run also interrupted."""
    version: int | None
    """What it published, or found live."""
    message: str | None
    started_at: datetime
    ended_at: datetime | None
    stages: Mapping[str, JsonObject]
    """Stage name to the counts of its report, see StageReport.as_json."""
    stage: str | None = None
    """The stage that is being worked on."""
    done: int = 0
    total: int | None = None
    stage_started_at: datetime | None = None

    def as_json(self) -> JsonObject:
        """Return what `kb status` says of a KB's last run; progress is told apart, see `progress`."""
        ended = Record.as_json(self)
        for name in ("stage", "done", "total", "stage_started_at"):
            del ended[name]
        return ended

    @property
    def progress(self) -> StageInProgress | None:
        """How far it is; None when it has ended."""
        if self.status != "running":
            return None
        eta_s = None
        if self.stage_started_at and self.total and self.done:
            elapsed_s = (datetime.now(UTC) - self.stage_started_at).total_seconds()
            eta_s = round(elapsed_s / self.done * max(self.total - self.done, 0), 1)
        return StageInProgress(self.stage, self.done, self.total, eta_s)


@dataclass(frozen=True, slots=True)
class Launch:
    """Why a run was started."""

    job_id: str | None = None
    """The job that it is, or goes on with; without one it is a job of its own."""
    by: str = ""
    """Who or what started it, where nobody had asked for it before."""
    options: tuple[str, ...] = ()
    """`force`, `retry`."""


def begin_refresh(
    db: Database,
    key: KbKey,
    run_id: str,
    read_flags: Callable[[], Mapping[str, FlagValue]] = dict,
    launch: Launch = Launch(),
) -> tuple[dict[str, FlagValue], bool]:
    """Record that a run works on the KB; a later stage of the same run, or its retry, changes nothing.

    Args:
        db: the control plane.
        key: the KB.
        run_id: whose first stage it is, or a later one.
        read_flags: returns what the flags are now; called only where the run has not recorded all of them.
        launch: why it was started.

    Returns:
        The flags that hold for the whole run, which are those it began with; and whether it begins, or begins again.

    Raises:
        JobWithdrawn: its job was cancelled before it began; that is recorded.
    """
    with db.write(key.tenant) as session:
        row = session.get(Refresh, (key.tenant, key.kb, run_id))
        if row is None or row.status != "running":
            is_withdrawn = not _begin_job(session, key, run_id, launch)
            if is_withdrawn and row is None:
                session.add(_ended_refresh(key, run_id, "cancelled", "cancelled before it began", datetime.now(UTC)))
        else:
            is_withdrawn = False
        if not is_withdrawn:
            return _begin(session, key, run_id, row, read_flags)
    raise JobWithdrawn(key, launch.job_id or run_id)


def _begin(
    session: Session,
    key: KbKey,
    run_id: str,
    row: Refresh | None,
    read_flags: Callable[[], Mapping[str, FlagValue]],
) -> tuple[dict[str, FlagValue], bool]:
    known = dict(row.flags or {}) if row else {}
    # A release that came amid the run may know more flags than the run began with.
    flags = known if KNOWN_FLAGS.keys() <= known.keys() else {**read_flags(), **known}
    if row is None:
        session.add(
            Refresh(
                tenant=key.tenant, kb=key.kb, run_id=run_id, status="running", stages={}, done=0,
                started_at=datetime.now(UTC), flags=flags,
            )
        )  # fmt: skip
        return flags, True
    begins = row.status != "running"
    if begins:
        row.status, row.message, row.ended_at = "running", None, None
    row.flags = flags
    return flags, begins


def _begin_job(session: Session, key: KbKey, run_id: str, launch: Launch) -> bool:
    """Within a transaction: let the job that the run is go on, make one if there is none; False if it was withdrawn."""
    now = datetime.now(UTC)
    job_id = launch.job_id or run_id
    job = session.get(Job, (key.tenant, key.kb, job_id), with_for_update=True)
    if job is not None and job.ended_at is None and job.cancel_requested_at is not None:
        end_job(session, job, "cancelled", "cancelled before it began")
        return False
    if job is not None and job.ended_at is not None:
        if job.run_id is None:
            return False
        # Begun anew by hand, long after its end: another job. A step that is tried again goes on with its own.
        job = lock_job(session, key, run_id)
        job_id = run_id
    if job is None:
        job = Job(
            tenant=key.tenant, kb=key.kb, id=job_id, options=",".join(sorted(launch.options)),
            requested_by=launch.by[:200], requested_at=now, last_event=0, percent=0.0,
        )  # fmt: skip
        session.add(job)
    job.run_id, job.ended_at = run_id, None
    add_event(session, job, "started", "running", f"run {run_id} begins", run_id=run_id)
    return True


def finish_stage(db: Database, key: KbKey, run_id: str, report: StageReport, unit: str) -> None:
    """Keep a stage's report, and in the same transaction the seconds of that unit of work."""
    with db.write(key.tenant) as session:
        row = session.get_one(Refresh, (key.tenant, key.kb, run_id))
        counts = report.as_json()
        row.stages = {**row.stages, report.stage: counts}
        row.stage = None
        if (job := lock_job(session, key, run_id)) is not None:
            add_stage_events(session, job, report.stage, counts)
        ledger.note_seconds(session, key, run_id, report, unit)


def end_refresh(
    db: Database,
    key: KbKey,
    run_id: str,
    status: RefreshStatus,
    version: int | None = None,
    message: str | None = None,
    *,
    is_tried_again: bool = False,
) -> None:
    """Record how the refresh ended; an interrupt waits until it is recorded.

    Args:
        db: the control plane.
        key: the KB.
        run_id: the run.
        status: how it ended.
        version: what it published, or found live.
        message: why, or what to know of it.
        is_tried_again: whether the same run begins again by itself, so that its job has not ended.
    """
    with deferred_interrupts(), db.write(key.tenant) as session:
        row = session.get(Refresh, (key.tenant, key.kb, run_id))
        if row is not None and (row.status == "running" or status not in _WITHOUT_RESULT):
            row.status, row.version, row.message = status, version, message
            row.stage, row.ended_at = None, datetime.now(UTC)
            _end_job_of(session, key, run_id, row, is_tried_again=is_tried_again)


def end_lost_refresh(db: Database, key: KbKey, run_id: str, status: RefreshStatus, message: str) -> None:
    """Record the end of a run of which nothing more comes: its refresh if that is open or never began, and its job."""
    with db.write(key.tenant) as session:
        row = session.get(Refresh, (key.tenant, key.kb, run_id))
        if row is None:
            row = _ended_refresh(key, run_id, status, message, datetime.now(UTC))
            session.add(row)
        elif row.status == "running":
            row.status, row.message, row.stage, row.ended_at = status, message, None, datetime.now(UTC)
        _end_job_of(session, key, run_id, row)


def _end_job_of(session: Session, key: KbKey, run_id: str, row: Refresh, *, is_tried_again: bool = False) -> None:
    job = lock_job(session, key, run_id)
    if job is None:
        return
    if is_tried_again and job.ended_at is None:
        add_event(session, job, "interrupted", "queued", row.message or "")
    else:
        end_job(session, job, row.status, row.message, row.version)


def _ended_refresh(key: KbKey, run_id: str, status: RefreshStatus, message: str, since: datetime) -> Refresh:
    return Refresh(
        tenant=key.tenant, kb=key.kb, run_id=run_id, status=status, message=message, stages={}, done=0,
        started_at=since, ended_at=datetime.now(UTC), flags={},
    )  # fmt: skip


def cancel_refresh(db: Database, key: KbKey, run_id: str, since: datetime) -> None:
    """Record that a person cancelled a refresh, whose worker has ended; what it published stays published.

    Args:
        db: the control plane.
        key: the KB.
        run_id: also of a refresh that has recorded nothing yet.
        since: when it was cancelled. What failed afterwards has failed for that.
    """
    with deferred_interrupts(), db.write(key.tenant) as session:
        row = session.get(Refresh, (key.tenant, key.kb, run_id))
        if row is None:
            row = _ended_refresh(key, run_id, "cancelled", "cancelled", since)
            session.add(row)
        else:
            has_failed_for_it = row.status == "failed" and row.ended_at is not None and row.ended_at >= since
            if row.status != "running" and not has_failed_for_it:
                return
            row.status, row.message, row.stage, row.ended_at = "cancelled", "cancelled", None, datetime.now(UTC)
        _end_job_of(session, key, run_id, row)


def end_interrupted(
    session: Session, run_id: str, message: str, status: RefreshStatus = "failed", *, is_tried_again: bool = False
) -> None:
    """Within a transaction: note that a run's worker died before it could say how it ended."""
    query = select(Refresh).where(Refresh.run_id == run_id, Refresh.status == "running").with_for_update()
    for row in session.scalars(query).all():
        row.status, row.message, row.stage, row.ended_at = status, message, None, datetime.now(UTC)
        _end_job_of(session, KbKey(row.tenant, row.kb), run_id, row, is_tried_again=is_tried_again)


def status_with_lease(status: str, run_id: str, lease_owner: str | None) -> str:
    """Return a refresh's status, `interrupted` for one that claims to run and whose run does not hold the lease."""
    return "interrupted" if status == "running" and lease_owner != run_id else status


def get_refresh(db: Database, key: KbKey, run_id: str) -> RefreshRecord | None:
    """Return one refresh, or None."""
    with db.read(key.tenant) as session:
        row = session.get(Refresh, (key.tenant, key.kb, run_id))
        return None if row is None else _record(row)


def latest_refresh(db: Database, key: KbKey) -> RefreshRecord | None:
    """Return the newest refresh of the KB, or None."""
    query = select(Refresh).where(Refresh.tenant == key.tenant, Refresh.kb == key.kb)
    with db.read(key.tenant) as session:
        row = session.scalars(query.order_by(Refresh.started_at.desc()).limit(1)).first()
        return None if row is None else _record(row)


def newest_account(db: Database, key: KbKey) -> Account | None:
    """Return the account that the newest cleaning took; None before the first one, or of an earlier release."""
    cleaned = newest_report(db, key, "clean")
    return Account.from_json(cleaned["account"]) if "account" in cleaned else None


def newest_report(db: Database, key: KbKey, stage: str) -> JsonObject:
    """Return the report of a stage in the newest refresh that came so far, as JSON; empty without one."""
    query = select(Refresh.stages).where(Refresh.tenant == key.tenant, Refresh.kb == key.kb)
    with db.read(key.tenant) as session:
        newest = session.scalars(query.order_by(Refresh.started_at.desc()).limit(_LOOKED_THROUGH))
        return next((dict(stages[stage]) for stages in newest if stage in stages), {})


def _record(row: Refresh) -> RefreshRecord:
    return RefreshRecord(
        row.run_id, row.status, row.version, row.message, row.started_at, row.ended_at, row.stages, row.stage,
        row.done, row.total, row.stage_started_at,
    )  # fmt: skip


class StageProgress:
    """Writes a stage's progress to the control plane, at most twice a second, and as events of its job less often."""

    def __init__(self, db: Database, key: KbKey, run_id: str, stage: str) -> None:
        self._db, self._key, self._run_id, self._stage = db, key, run_id, stage
        self._began = time.monotonic()
        self._next, self._next_event = 0.0, self._began + progress_interval_s(0)
        with db.write(key.tenant) as session:
            self._update(session, stage=stage, done=0, total=None, stage_started_at=datetime.now(UTC))
            if (job := lock_job(session, key, run_id)) is not None:
                percent = percent_of(stage, 0, None)
                add_event(session, job, "stage_started", "running", f"{stage} begins", stage=stage, percent=percent)

    def __call__(self, done: int, total: int | None) -> None:
        """Say how far the stage is."""
        now = time.monotonic()
        if now < self._next and done != total:
            return
        self._next = now + _PROGRESS_INTERVAL_S
        with self._db.write(self._key.tenant) as session:
            self._update(session, done=done, total=total)
            if now < self._next_event or (job := lock_job(session, self._key, self._run_id)) is None:
                return
            self._next_event = now + progress_interval_s(now - self._began)
            percent = percent_of(self._stage, done, total)
            add_event(
                session, job, "progress", "running", stage=self._stage, done=done, total=total, percent=percent
            )  # fmt: skip

    def _update(self, session: Session, **values: Any) -> None:  # noqa: ANN401 - column values
        session.execute(
            update(Refresh)
            .where(
                Refresh.tenant == self._key.tenant, Refresh.kb == self._key.kb, Refresh.run_id == self._run_id
            )
            .values(**values)
        )  # fmt: skip
