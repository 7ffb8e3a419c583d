"""Refreshes that somebody asked for without waiting for them: a sensor has each run once."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, tuple_, update

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Kb, RunRequest, Tenant
from kb_pipeline.control.tenancy.tenants import require_active
from kb_pipeline.errors import UnknownKb
from kb_pipeline.model import KbKey

_KEPT = timedelta(days=30)
"""So long whoever asked can see which run it became."""


@dataclass(frozen=True, slots=True)
class WaitingRequest:
    """One that has not become a run yet."""

    key: KbKey
    id: str
    options: tuple[str, ...]


def request_run(db: Database, key: KbKey, options: Iterable[str], actor: str) -> dict[str, Any]:
    """Ask for a refresh; while one with the same wishes waits, that is the one.

    Returns:
        What `kb build --queue` prints.

    Raises:
        TenantInactive: the tenant is suspended, or being deleted.
        UnknownKb: there is no such KB.
    """
    require_active(db, key.tenant)
    wished = ",".join(sorted(options))
    with db.write(key.tenant) as session:
        if session.get(Kb, (key.tenant, key.kb), with_for_update=True) is None:  # whoever asks at the same time waits
            raise UnknownKb(key)
        waiting = _of_kb(key).where(RunRequest.run_id.is_(None), RunRequest.options == wished)
        row = session.scalars(waiting).first()
        if row is None:
            row = RunRequest(
                tenant=key.tenant, kb=key.kb, id=uuid.uuid4().hex, options=wished, requested_by=actor[:200],
                requested_at=datetime.now(UTC),
            )  # fmt: skip
            session.add(row)
        return {"kb": str(key), "status": "queued"} | _described(row)


def list_waiting(db: Database, limit: int) -> list[WaitingRequest]:
    """The oldest requests that wait, of active tenants."""
    is_active = select(Tenant.tenant).where(Tenant.tenant == RunRequest.tenant, Tenant.status == "active").exists()
    query = select(RunRequest).where(RunRequest.run_id.is_(None), is_active)
    with db.read_all() as session:
        rows = session.scalars(query.order_by(RunRequest.requested_at, RunRequest.id).limit(limit))
        return [WaitingRequest(KbKey(row.tenant, row.kb), row.id, _wishes(row)) for row in rows]


def note_runs(db: Database, runs: Mapping[WaitingRequest, str]) -> None:
    """Say which run each request became."""
    with db.write_all() as session:
        for request, run_id in runs.items():
            key = (request.key.tenant, request.key.kb, request.id)
            place = tuple_(RunRequest.tenant, RunRequest.kb, RunRequest.id) == key
            session.execute(update(RunRequest).where(place).values(run_id=run_id))


def waiting_of(db: Database, key: KbKey) -> list[dict[str, Any]]:
    """A KB's requests that have not become a run yet, oldest first, as `kb status` prints them."""
    with db.read(key.tenant) as session:
        rows = session.scalars(_of_kb(key).where(RunRequest.run_id.is_(None)).order_by(RunRequest.requested_at))
        return [_described(row) for row in rows]


def forget_old_requests(db: Database, kept: timedelta = _KEPT) -> None:
    """Forget requests that became runs long ago."""
    with db.write_all() as session:
        is_old = RunRequest.requested_at < datetime.now(UTC) - kept
        session.execute(delete(RunRequest).where(RunRequest.run_id.is_not(None), is_old))


def _of_kb(key: KbKey) -> Any:  # noqa: ANN401 - SQLAlchemy's generic select
    return select(RunRequest).where(RunRequest.tenant == key.tenant, RunRequest.kb == key.kb)


def _wishes(row: RunRequest) -> tuple[str, ...]:
    return tuple(filter(None, row.options.split(",")))


def _described(row: RunRequest) -> dict[str, Any]:
    return {
        "request": row.id,
        "wishes": list(_wishes(row)),
        "requested_by": row.requested_by,
        "requested_at": row.requested_at.isoformat(),
        "run_id": row.run_id,
    }
