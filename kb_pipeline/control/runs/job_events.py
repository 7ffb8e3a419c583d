"""The events of a job: numbered without a gap and written in the transaction in which they happen.

So whatever is killed, and whichever process is asked afterwards, an event that was seen once stays under its number,
and none is missing between two that were seen. Their number is bounded: progress is told at most once a second, and
in a stage that has run for long once for every hundredth of that time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Job, JobEvent
from kb_pipeline.model import JsonObject, KbKey, Record

EventType = Literal[
    "queued", "started", "stage_started", "progress", "stage_finished", "warning", "cancelling", "interrupted", "ended"
]
_SHARES = {"fetch": 50, "clean": 15, "chunk": 5, "embed": 20, "index": 10}
"""Per cent of a refresh that each stage takes, about, in the order in which they run."""
_MAX_PAGE = 500
_MAX_MESSAGE = 4000
_PROGRESS_S = 1.0
_PROGRESS_SHARE = 0.01
_REASONS = 3


@dataclass(frozen=True, slots=True)
class JobEventRecord(Record):
    """One thing that happened in a job."""

    id: int
    """1 for the first one; no number is left out or used twice."""
    at: datetime
    type: str
    body: Mapping[str, Any]
    """`state`, `stage`, `percent` and `message`, and what the type has beside them."""

    @property
    def is_last(self) -> bool:
        """Whether the job has ended with it."""
        return self.type == "ended"

    def as_json(self) -> JsonObject:
        """Return number, time and type, with what the event tells beside them."""
        return {"id": self.id, "at": self.at.isoformat(), "type": self.type, **self.body}


def progress_interval_s(elapsed_s: float) -> float:
    """Return the time until progress is told again in a stage that has run for so many seconds."""
    return max(_PROGRESS_S, elapsed_s * _PROGRESS_SHARE)


def percent_of(stage: str, done: int, total: int | None) -> float:
    """Return how many per cent of a refresh are done while a stage is at `done` of `total`."""
    before = 0.0
    for name, share in _SHARES.items():
        if name == stage:
            return round(before + share * (min(done / total, 1.0) if total else 0.0), 1)
        before += share
    return 0.0


def lock_job(session: Session, key: KbKey, run_id: str) -> Job | None:
    """Return the job of a run, locked until the transaction ends; None for a run from before there were jobs."""
    query = select(Job).where(Job.tenant == key.tenant, Job.kb == key.kb, Job.run_id == run_id)
    return session.scalars(query.with_for_update()).first()


def add_event(session: Session, job: Job, type_: EventType, state: str, message: str = "", **told: Any) -> None:  # noqa: ANN401 - JSON
    """Within the transaction in which it happens: number an event and keep it.

    Args:
        session: of the transaction.
        job: locked.
        type_: what happened.
        state: of the job, from now on.
        message: the same in words.
        told: `stage`, `done`, `total`, and whatever else the type has; `percent` moves the job on, never back.
    """
    job.last_event += 1
    job.percent = max(job.percent, told.pop("percent", 0.0))
    body = {"state": state, "percent": job.percent, **told} | ({"message": message[:_MAX_MESSAGE]} if message else {})
    session.add(
        JobEvent(
            tenant=job.tenant, kb=job.kb, job_id=job.id, number=job.last_event, at=datetime.now(UTC), type=type_,
            body=body,
        )
    )  # fmt: skip


def end_job(session: Session, job: Job, state: str, message: str | None, version: int | None = None) -> None:
    """Within a transaction: write the last event of a job, unless it has one."""
    if job.ended_at is None:
        job.ended_at = datetime.now(UTC)
        told = {"version": version} if version is not None else {}
        add_event(session, job, "ended", state, message or state, percent=100.0, **told)


def add_stage_events(session: Session, job: Job, stage: str, report: JsonObject) -> None:
    """Within the transaction that keeps a stage's report: tell its counts, and what to know of them."""
    counts = {name: report[name] for name in ("in", "out", "unchanged", "rejected", "failed", "deleted", "seconds")}
    percent = percent_of(stage, 1, 1)
    words = f"{stage}: {counts['out']:,} of {counts['in']:,}, {counts['unchanged']:,} unchanged"
    add_event(session, job, "stage_finished", "running", words, stage=stage, percent=percent, counts=counts)
    for warning in stage_warnings(stage, report):
        add_event(session, job, "warning", "running", warning, stage=stage)


def stage_warnings(stage: str, report: JsonObject) -> Iterator[str]:
    """Yield what to know of a stage that has ended, a sentence each."""
    if failed := dict(report.get("failed_by_reason", {})):
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in list(failed.items())[:_REASONS])
        yield f"{stage}: {sum(failed.values()):,} failed ({reasons})"
    for repaired in report.get("repaired", []):
        yield f"{stage}: damaged data was set aside and made again: {repaired}"


def list_events(db: Database, key: KbKey, job_id: str, after: int = 0, limit: int = _MAX_PAGE) -> list[JobEventRecord]:
    """Return the events of a job that come after a number, in order.

    Args:
        db: the control plane.
        key: the KB.
        job_id: the job.
        after: the number of the last event that is known already.
        limit: the most that are returned.
    """
    query = _of_job(key, job_id).where(JobEvent.number > after).order_by(JobEvent.number)
    with db.read(key.tenant) as session:
        return [_record(row) for row in session.scalars(query.limit(min(limit, _MAX_PAGE)))]


def list_log(db: Database, key: KbKey, job_id: str) -> list[JobEventRecord]:
    """Return the newest events of a job that are more than progress, in order."""
    query = _of_job(key, job_id).where(JobEvent.type != "progress").order_by(JobEvent.number.desc())
    with db.read(key.tenant) as session:
        return [_record(row) for row in session.scalars(query.limit(_MAX_PAGE))][::-1]


def newest_numbers(db: Database, tenant: str, job_ids: Sequence[str]) -> dict[str, int]:
    """Return the number of the newest event of each of a tenant's jobs, by id; without those that are not there."""
    with db.read(tenant) as session:
        rows = session.execute(select(Job.id, Job.last_event).where(Job.id.in_(job_ids)))
        return {job_id: number for job_id, number in rows}  # noqa: C416 - dict() takes a result for a mapping


def _record(row: JobEvent) -> JobEventRecord:
    return JobEventRecord(row.number, row.at, row.type, row.body)


def _of_job(key: KbKey, job_id: str) -> Any:  # noqa: ANN401 - a select
    return select(JobEvent).where(JobEvent.tenant == key.tenant, JobEvent.kb == key.kb, JobEvent.job_id == job_id)
