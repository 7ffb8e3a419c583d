"""Jobs: refreshes by the id of what asked for them, which stays the same through every run that they take."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from sqlalchemy import Select, delete, func, or_, select, tuple_
from sqlalchemy.orm import aliased

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Job, JobEvent, Refresh
from kb_pipeline.control.runs.job_events import add_event, stage_warnings
from kb_pipeline.errors import UnknownJob, UsageError
from kb_pipeline.model import JsonObject, KbKey, Record

JobState = Literal[
    "queued", "running", "ready", "ready_with_warnings", "unchanged", "held", "snoozed", "partial", "failed",
    "cancelled",
]  # fmt: skip
"""`queued` until a run works on it, `running`, and then how it ended."""
MAX_PAGE = 1000
CANCEL_AGAIN_S = 60.0
"""How long a run may take to finish its requests in flight before it is told to end once more."""
_KEPT = timedelta(days=30)
_LEAST_PERCENT = 2.0
"""From here on the time that is left is told by the time that was taken."""


@dataclass(frozen=True, slots=True)
class JobStats(Record):
    """What a job has counted so far."""

    pages_discovered: int = 0
    pages_scraped: int = 0
    pages_failed: int = 0
    chunks_created: int = 0
    """Of the KB, those of unchanged documents among them."""
    embeddings_generated: int = 0
    """Texts that were embedded, and not found in the cache."""
    vectors_indexed: int = 0


@dataclass(frozen=True, slots=True)
class JobRecord(Record):
    """A refresh, from the request to its end."""

    id: str
    kb: KbKey
    state: JobState
    options: tuple[str, ...]
    """`force`, `retry`: what it was asked to do beside the usual."""
    requested_by: str
    requested_at: datetime
    run_id: str | None
    """The newest run that it took; None while a sensor is to start one."""
    started_at: datetime | None
    ended_at: datetime | None
    is_cancelling: bool
    """Whether it was told to end and has not yet."""
    stage: str | None
    """That is being worked on."""
    done: int
    total: int | None
    """Units of the stage's work; None while unknown."""
    percent: float
    """Of the whole job; never less than before."""
    estimated_completion: datetime | None
    """By the time it has taken so far; None before there is any, and once it has ended."""
    version: int | None
    """What it published, or found live."""
    message: str | None
    """Why it ended as it did."""
    stages: Mapping[str, JsonObject]
    """Stage name to the counts of its report, see StageReport.as_json."""
    last_event: int
    """The number of its newest event."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.ended_at is not None

    @property
    def eta_s(self) -> float | None:
        """Seconds until it ends, about."""
        if self.estimated_completion is None:
            return None
        return round(max(0.0, (self.estimated_completion - datetime.now(UTC)).total_seconds()), 1)

    @property
    def stats(self) -> JobStats:
        """What was counted, of the stage that is being worked on too."""
        fetch, chunk, embed, index = (self.stages.get(name, {}) for name in ("fetch", "chunk", "embed", "index"))
        now = {self.stage: self.done}
        return JobStats(
            pages_discovered=fetch.get("in") or ((self.total or self.done) if self.stage == "fetch" else 0),
            pages_scraped=fetch.get("out", now.get("fetch", 0)),
            pages_failed=fetch.get("failed", 0),
            chunks_created=chunk.get("chunks", 0),
            embeddings_generated=embed.get("embedded", now.get("embed", 0)),
            vectors_indexed=index.get("out", now.get("index", 0)),
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know of it though it may have published, a sentence each."""
        told = [each for stage, report in self.stages.items() for each in stage_warnings(stage, report)]
        has_words = self.state in ("ready_with_warnings", "unchanged") and self.message
        return tuple(dict.fromkeys([*told, *(self.message or "").splitlines()] if has_words else told))


def get_job(db: Database, tenant: str | None, job_id: str) -> JobRecord:
    """Return a job.

    Args:
        db: the control plane.
        tenant: whose; None for anybody's.
        job_id: its id.

    Raises:
        UnknownJob: there is none such, or it is another tenant's.
    """
    with _reading(db, tenant) as session:
        found = session.execute(_jobs(tenant).where(Job.id == job_id)).first()
    if found is None:
        raise UnknownJob(job_id[:100])
    return _record(*found)


def newest_job(db: Database, key: KbKey) -> JobRecord | None:
    """Return the newest job of a KB; None before the first one."""
    query = _jobs(key.tenant).where(Job.kb == key.kb).order_by(Job.requested_at.desc(), Job.id.desc())
    with db.read(key.tenant) as session:
        found = session.execute(query.limit(1)).first()
    return None if found is None else _record(*found)


def list_jobs(
    db: Database,
    tenant: str | None,
    *,
    kb: KbKey | None = None,
    kbs: Collection[str] | None = None,
    states: Sequence[str] = (),
    before: tuple[datetime, str] | None = None,
    limit: int = 100,
) -> list[JobRecord]:
    """Return jobs, the newest first.

    Args:
        db: the control plane.
        tenant: whose; None for all.
        kb: only of this KB.
        kbs: only of KBs of these names; None for all.
        states: only those in one of these.
        before: when the last one of the page before was asked for, and its id.
        limit: the most that are returned, 1 to 1,000.

    Raises:
        UsageError: there is no such state, or the limit is out of range.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise UsageError(f"limit is {limit}; allowed is 1 to {MAX_PAGE:,}")
    query = _jobs(tenant).order_by(Job.requested_at.desc(), Job.id.desc()).limit(limit)
    if kb is not None:
        query = query.where(Job.tenant == kb.tenant, Job.kb == kb.kb)
    if kbs is not None:
        query = query.where(Job.kb.in_(kbs))
    if states:
        query = query.where(or_(*(_is_in_state(state) for state in states)))
    if before is not None:
        query = query.where(tuple_(Job.requested_at, Job.id) < before)
    with _reading(db, tenant) as session:
        return [_record(*found) for found in session.execute(query)]


def ask_to_cancel(db: Database, key: KbKey, job_id: str, actor: str) -> bool:
    """Note that a job is to end; return whether its run is to be told, which it is once, and again after a minute."""
    now = datetime.now(UTC)
    with db.write(key.tenant) as session:
        job = session.get(Job, (key.tenant, key.kb, job_id), with_for_update=True)
        if job is None or job.ended_at is not None:
            return False
        before = job.cancel_requested_at
        if before is not None and now - before < timedelta(seconds=CANCEL_AGAIN_S):
            return False
        job.cancel_requested_at = now
        if before is None:
            add_event(session, job, "cancelling", "running", f"told to end by {actor}")
    return True


def list_open_ended(db: Database, limit: int = 100) -> list[tuple[KbKey, str]]:
    """Return KB and run of jobs that have not ended, though their refresh is none that runs."""
    query = (
        select(Job.tenant, Job.kb, Job.run_id)
        .outerjoin(Refresh, _ITS_REFRESH)
        .where(Job.run_id.is_not(None), Job.ended_at.is_(None))
        .where(or_(Refresh.run_id.is_(None), Refresh.status != "running"))
        .order_by(Job.requested_at)
        .limit(limit)
    )
    with db.read_all() as session:
        return [(KbKey(tenant, kb), str(run_id)) for tenant, kb, run_id in session.execute(query)]


def move_to_run(db: Database, key: KbKey, from_run: str, to_run: str) -> None:
    """Let a job go on with the run that takes the place of a lost one."""
    with db.write(key.tenant) as session:
        query = select(Job).where(Job.tenant == key.tenant, Job.kb == key.kb, Job.run_id == from_run)
        for job in session.scalars(query.with_for_update()).all():
            job.run_id = to_run


def forget_old_jobs(db: Database, kept: timedelta = _KEPT) -> None:
    """Forget jobs that ended long ago, with their events, but for the newest one of each KB."""
    newer = aliased(Job)
    is_newest = ~(
        select(newer.id)
        .where(newer.tenant == Job.tenant, newer.kb == Job.kb, newer.requested_at > Job.requested_at)
        .exists()
    )
    with db.write_all() as session:
        session.execute(
            delete(Job).where(Job.ended_at < datetime.now(UTC) - kept, ~is_newest), {},
            execution_options={"synchronize_session": False},
        )  # fmt: skip
        has_job = select(Job.id).where(Job.tenant == JobEvent.tenant, Job.kb == JobEvent.kb, Job.id == JobEvent.job_id)
        session.execute(
            delete(JobEvent).where(~has_job.exists()), {}, execution_options={"synchronize_session": False}
        )  # fmt: skip


_ITS_REFRESH = (Refresh.tenant == Job.tenant) & (Refresh.kb == Job.kb) & (Refresh.run_id == Job.run_id)


def _reading(db: Database, tenant: str | None) -> Any:  # noqa: ANN401 - a context manager
    return db.read_all() if tenant is None else db.read(tenant)


def _jobs(tenant: str | None) -> Select[*tuple[Any, ...]]:
    query = select(Job, Refresh).outerjoin(Refresh, _ITS_REFRESH)
    return query if tenant is None else query.where(Job.tenant == tenant)


def _is_in_state(state: str) -> Any:  # noqa: ANN401 - a clause
    if state not in get_args(JobState):
        raise UsageError(f"{state!r} is no state of a job; there are {', '.join(get_args(JobState))}")
    is_running = func.coalesce(Refresh.status, "") == "running"
    if state == "queued":
        return Job.ended_at.is_(None) & ~is_running
    if state == "running":
        return Job.ended_at.is_(None) & is_running
    ended = func.coalesce(Refresh.status, "cancelled") == state
    return Job.ended_at.is_not(None) & ended


def _record(job: Job, refresh: Refresh | None) -> JobRecord:
    runs = refresh is not None and refresh.status == "running"
    if job.ended_at is None:
        state: Any = "running" if runs else "queued"
    else:
        state = refresh.status if refresh is not None else "cancelled"
    message = refresh.message if refresh is not None else ("cancelled before it began" if job.ended_at else None)
    return JobRecord(
        id=job.id,
        kb=KbKey(job.tenant, job.kb),
        state=state,
        options=tuple(filter(None, job.options.split(","))),
        requested_by=job.requested_by,
        requested_at=job.requested_at,
        run_id=job.run_id,
        started_at=refresh.started_at if refresh is not None else None,
        ended_at=job.ended_at,
        is_cancelling=job.cancel_requested_at is not None and job.ended_at is None,
        stage=refresh.stage if refresh is not None and runs else None,
        done=refresh.done if refresh is not None and runs else 0,
        total=refresh.total if refresh is not None and runs else None,
        percent=job.percent,
        estimated_completion=_completion(job, refresh) if refresh is not None and runs else None,
        version=refresh.version if refresh is not None else None,
        message=message,
        stages=refresh.stages if refresh is not None else {},
        last_event=job.last_event,
    )


def _completion(job: Job, refresh: Refresh) -> datetime | None:
    if job.percent < _LEAST_PERCENT:
        return None
    elapsed = datetime.now(UTC) - refresh.started_at
    return datetime.now(UTC) + elapsed * ((100.0 - job.percent) / job.percent)
