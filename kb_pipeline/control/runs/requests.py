"""Refreshes that somebody asked for without waiting for them: a sensor starts one run for each."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Select, delete, select, tuple_, update

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Kb, RunRequest, Tenant
from kb_pipeline.control.tenancy.tenants import require_active
from kb_pipeline.errors import UnknownKb
from kb_pipeline.model import JsonObject, KbKey, Record

_KEPT = timedelta(days=30)
"""For how long a request that became a run still says which one."""


@dataclass(frozen=True, slots=True)
class RequestRecord(Record):
    """A refresh that somebody asked for."""

    key: KbKey
    id: str
    options: tuple[str, ...]
    """`force`, `retry`: what the refresh was asked to do beside the usual."""
    requested_by: str
    requested_at: datetime
    run_id: str | None
    """The run that the request became; None while it waits."""

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
    wanted = ",".join(sorted(options))
    with db.write(key.tenant) as session:
        if session.get(Kb, (key.tenant, key.kb), with_for_update=True) is None:  # whoever asks at the same time waits
            raise UnknownKb(key)
        waiting = _of_kb(key).where(RunRequest.run_id.is_(None), RunRequest.options == wanted)
        row = session.scalars(waiting).first()
        if row is None:
            row = RunRequest(
                tenant=key.tenant, kb=key.kb, id=uuid.uuid4().hex, options=wanted, requested_by=actor[:200],
                requested_at=datetime.now(UTC),
            )  # fmt: skip
            session.add(row)
        return _record(row)


def list_waiting(db: Database, limit: int) -> list[RequestRecord]:
    """Return the oldest requests that wait, of active tenants."""
    is_active = select(Tenant.tenant).where(Tenant.tenant == RunRequest.tenant, Tenant.status == "active").exists()
    query = select(RunRequest).where(RunRequest.run_id.is_(None), is_active)
    with db.read_all() as session:
        rows = session.scalars(query.order_by(RunRequest.requested_at, RunRequest.id).limit(limit))
        return [_record(row) for row in rows]


def note_runs(db: Database, runs: Mapping[RequestRecord, str]) -> None:
    """Say which run each request became."""
    with db.write_all() as session:
        for request, run_id in runs.items():
            key = (request.key.tenant, request.key.kb, request.id)
            place = tuple_(RunRequest.tenant, RunRequest.kb, RunRequest.id) == key
            session.execute(update(RunRequest).where(place).values(run_id=run_id))


def waiting_of(db: Database, key: KbKey) -> list[RequestRecord]:
    """Return a KB's requests that have not become a run yet, oldest first."""
    with db.read(key.tenant) as session:
        rows = session.scalars(_of_kb(key).where(RunRequest.run_id.is_(None)).order_by(RunRequest.requested_at))
        return [_record(row) for row in rows]


def withdraw(db: Database, key: KbKey) -> int:
    """Forget a KB's requests that have not become a run; return how many there were."""
    waiting = (RunRequest.tenant == key.tenant) & (RunRequest.kb == key.kb) & RunRequest.run_id.is_(None)
    with db.write(key.tenant) as session:
        return len(session.execute(delete(RunRequest).where(waiting).returning(RunRequest.id)).all())


def forget_old_requests(db: Database, kept: timedelta = _KEPT) -> None:
    """Forget requests that became runs long ago."""
    with db.write_all() as session:
        is_old = RunRequest.requested_at < datetime.now(UTC) - kept
        session.execute(delete(RunRequest).where(RunRequest.run_id.is_not(None), is_old))


def _of_kb(key: KbKey) -> Select[RunRequest]:
    return select(RunRequest).where(RunRequest.tenant == key.tenant, RunRequest.kb == key.kb)


def _record(row: RunRequest) -> RequestRecord:
    options = tuple(filter(None, row.options.split(",")))
    key = KbKey(row.tenant, row.kb)
    return RequestRecord(key, row.id, options, row.requested_by, row.requested_at, row.run_id)
