"""Refreshes that somebody asked for without waiting for them: jobs for which a sensor starts one run each."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Select, select, tuple_, update
from sqlalchemy.orm import Session

from kb_pipeline.control.coordination.idempotency import answer_once
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Job, Kb, Tenant
from kb_pipeline.control.runs.job_events import add_event, end_job
from kb_pipeline.control.tenancy.tenants import require_active
from kb_pipeline.errors import UnknownKb
from kb_pipeline.model import JsonObject, KbKey, Record, RequestOnce
from kb_pipeline.request_context import current_request


@dataclass(frozen=True, slots=True)
class RequestRecord(Record):
    """A refresh that somebody asked for."""

    key: KbKey
    id: str
    """Of the request, and of the job that it is from now on."""
    options: tuple[str, ...]
    """`force`, `retry`: what the refresh was asked to do beside the usual."""
    requested_by: str
    requested_at: datetime
    run_id: str | None
    """The run that the request became; None while it waits."""
    traceparent: str | None = None
    """The W3C trace that it is part of, which its run carries on."""

    def as_json(self) -> JsonObject:
        """Return what `kb status` lists; the KB is named by what holds the list."""
        return {
            "request": self.id,
            "wishes": list(self.options),
            "requested_by": self.requested_by,
            "requested_at": self.requested_at.isoformat(),
            "run_id": self.run_id,
        }


def request_run(db: Database, key: KbKey, options: Iterable[str], actor: str) -> RequestRecord:
    """Ask for a refresh and return the request; one that waits with the same options is returned instead.

    Raises:
        TenantInactive: the tenant is suspended, or being deleted.
        UnknownKb: there is no such KB.
    """
    require_active(db, key.tenant)
    with db.write(key.tenant) as session:
        return request_within(session, key, options, actor)


def request_once(
    db: Database, key: KbKey, options: Iterable[str], actor: str, once: RequestOnce | None
) -> tuple[str, bool]:
    """Ask for a refresh, once for all requests with the same key; return its id, and whether it had been asked for.

    Raises:
        TenantInactive: the tenant is suspended, or being deleted.
        UnknownKb: there is no such KB.
        KeyReused: another request had the same key.
    """
    require_active(db, key.tenant)
    with db.write(key.tenant) as session:
        answer = answer_once(
            session, key.tenant, once, lambda: {"job_id": request_within(session, key, options, actor).id}
        )
    return str(answer.body["job_id"]), answer.is_replayed


def request_within(session: Session, key: KbKey, options: Iterable[str], actor: str) -> RequestRecord:
    """Ask for a refresh within a transaction of the tenant's, which is active; see `request_run`. Raises UnknownKb."""
    wanted = ",".join(sorted(options))
    if session.get(Kb, (key.tenant, key.kb), with_for_update=True) is None:  # whoever asks at the same time waits
        raise UnknownKb(key)
    row = session.scalars(_waiting(key).where(Job.options == wanted)).first()
    if row is None:
        row = Job(
            tenant=key.tenant, kb=key.kb, id=uuid.uuid4().hex, options=wanted, requested_by=actor[:200],
            requested_at=datetime.now(UTC), last_event=0, percent=0.0, traceparent=_traceparent(),
        )  # fmt: skip
        session.add(row)
        told = {"options": wanted.split(",")} if wanted else {}
        add_event(session, row, "queued", "queued", f"asked for by {row.requested_by}", **told)
    return _record(row)


def list_waiting(db: Database, limit: int) -> list[RequestRecord]:
    """Return the oldest requests that wait, of active tenants."""
    is_active = select(Tenant.tenant).where(Tenant.tenant == Job.tenant, Tenant.status == "active").exists()
    query = select(Job).where(Job.run_id.is_(None), Job.ended_at.is_(None), is_active)
    with db.read_all() as session:
        rows = session.scalars(query.order_by(Job.requested_at, Job.id).limit(limit))
        return [_record(row) for row in rows]


def note_runs(db: Database, runs: Mapping[RequestRecord, str]) -> None:
    """Say which run each request became."""
    with db.write_all() as session:
        for request, run_id in runs.items():
            place = tuple_(Job.tenant, Job.kb, Job.id) == (request.key.tenant, request.key.kb, request.id)
            session.execute(update(Job).where(place, Job.run_id.is_(None)).values(run_id=run_id))


def waiting_of(db: Database, key: KbKey) -> list[RequestRecord]:
    """Return a KB's requests that have not become a run yet, oldest first."""
    with db.read(key.tenant) as session:
        return [_record(row) for row in session.scalars(_waiting(key).order_by(Job.requested_at))]


def withdraw(db: Database, key: KbKey, job_id: str | None = None) -> int:
    """Cancel a KB's requests that have not become a run, or that one of them; return how many there were."""
    query = _waiting(key) if job_id is None else _waiting(key).where(Job.id == job_id)
    with db.write(key.tenant) as session:
        rows = session.scalars(query.with_for_update()).all()
        for row in rows:
            row.cancel_requested_at = datetime.now(UTC)
            end_job(session, row, "cancelled", "cancelled before it began")
        return len(rows)


def _waiting(key: KbKey) -> Select[Job]:
    of_kb = (Job.tenant == key.tenant, Job.kb == key.kb)
    return select(Job).where(*of_kb, Job.run_id.is_(None), Job.ended_at.is_(None))


def _record(row: Job) -> RequestRecord:
    options = tuple(filter(None, row.options.split(",")))
    key = KbKey(row.tenant, row.kb)
    return RequestRecord(key, row.id, options, row.requested_by, row.requested_at, row.run_id, row.traceparent)


def _traceparent() -> str | None:
    request = current_request.get()
    return None if request is None else request.traceparent
