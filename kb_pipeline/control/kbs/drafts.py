"""Drafts: KB files that somebody is writing piece by piece; they expire a day after they were begun."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from kb_pipeline.control.db.engine import Database, advisory_lock
from kb_pipeline.control.db.models import KbDraft
from kb_pipeline.errors import UnknownDraft, UsageError
from kb_pipeline.model import JsonObject, Record

LIFETIME = timedelta(hours=24)
MAX_DRAFTS = 1000
"""Of a tenant at once."""


@dataclass(frozen=True, slots=True)
class DraftRecord(Record):
    """A KB file that is being written."""

    id: str
    tenant: str
    body: Mapping[str, object]
    """The file's fields as far as they are written; they need not be valid."""
    created_by: str
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    minutes: float | None
    """How long a first refresh takes by the newest estimate; None without one, or after a change."""


def create_draft(db: Database, tenant: str, body: JsonObject, actor: str) -> DraftRecord:
    """Begin a draft; raise UsageError if the tenant has very many."""
    now = datetime.now(UTC)
    with db.write(tenant) as session:
        advisory_lock(session, f"kb drafts {tenant}")
        if (session.scalar(select(func.count()).select_from(KbDraft)) or 0) >= MAX_DRAFTS:
            raise UsageError(f"there are {MAX_DRAFTS:,} drafts of tenant {tenant}; delete some")
        row = KbDraft(
            tenant=tenant, id=uuid.uuid4().hex, body=body, created_by=actor[:200], created_at=now, updated_at=now,
            expires_at=now + LIFETIME,
        )  # fmt: skip
        session.add(row)
        return _record(row)


def get_draft(db: Database, tenant: str, draft_id: str) -> DraftRecord:
    """Return a draft; raise UnknownDraft, also for one that has expired."""
    with db.read(tenant) as session:
        return _record(_found(session.get(KbDraft, (tenant, draft_id)), draft_id))


def list_drafts(db: Database, tenant: str) -> list[DraftRecord]:
    """Return the drafts of a tenant, the newest first."""
    query = select(KbDraft).where(KbDraft.expires_at > datetime.now(UTC))
    with db.read(tenant) as session:
        return [_record(row) for row in session.scalars(query.order_by(KbDraft.created_at.desc(), KbDraft.id))]


def lock_draft(session: Session, tenant: str, draft_id: str) -> KbDraft:
    """Within a transaction: return a draft's row, to be changed or deleted; raise UnknownDraft."""
    return _found(session.get(KbDraft, (tenant, draft_id), with_for_update=True), draft_id)


def put_body(session: Session, row: KbDraft, body: JsonObject) -> DraftRecord:
    """Within a transaction: write what a draft says from now on."""
    row.body, row.updated_at, row.minutes = body, datetime.now(UTC), None
    return _record(row)


def delete_draft(db: Database, tenant: str, draft_id: str) -> None:
    """Delete a draft; raise UnknownDraft."""
    with db.write(tenant) as session:
        session.delete(lock_draft(session, tenant, draft_id))


def note_minutes(db: Database, tenant: str, draft_id: str, body: Mapping[str, object], minutes: float) -> None:
    """Keep how long a first refresh takes, unless the draft has been changed or is gone."""
    with db.write(tenant) as session:
        row = session.get(KbDraft, (tenant, draft_id), with_for_update=True)
        if row is not None and row.body == body:
            row.minutes = minutes


def forget_expired_drafts(db: Database) -> None:
    """Delete the drafts that have expired."""
    with db.write_all() as session:
        session.execute(delete(KbDraft).where(KbDraft.expires_at <= datetime.now(UTC)))


def _found(row: KbDraft | None, draft_id: str) -> KbDraft:
    if row is None or row.expires_at <= datetime.now(UTC):
        raise UnknownDraft(draft_id[:100])
    return row


def _record(row: KbDraft) -> DraftRecord:
    return DraftRecord(
        row.id, row.tenant, row.body, row.created_by, row.created_at, row.updated_at, row.expires_at, row.minutes
    )  # fmt: skip
