"""Who changed what, when, from what to what: appended in the transaction of the change, each entry chained to the last.

Each tenant has a chain of its own, the installation (tenant "") too. An entry's hash covers the one before it, so that
no entry can be altered, inserted or taken out unseen; that the last ones were cut off shows only against a head that
was noted elsewhere, which is why `kb audit verify` prints the heads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from kb_pipeline.control.db.engine import Database, advisory_lock
from kb_pipeline.control.db.models import AuditEntry
from kb_pipeline.model import Record

INSTALLATION = ""
"""The tenant of what concerns all."""
_START = "0" * 64


@dataclass(frozen=True, slots=True)
class AuditRecord(Record):
    """One change by somebody."""

    number: int
    """From 1 on, without gaps, per tenant."""
    at: datetime
    actor: str
    """A user of the machine, a run or an API key."""
    action: str
    """What was changed and a verb, such as `kb.apply`."""
    subject: str
    """The key, name or id of what was changed."""
    before: Mapping[str, Any] | None
    """What the change replaced; None when it was new."""
    after: Mapping[str, Any] | None
    """What it was then; None when it was removed."""
    hash: str
    """SHA-256 over this entry and the hash before it, hexadecimal."""


@dataclass(frozen=True, slots=True)
class Chain(Record):
    """What verifying a tenant's audit log found."""

    tenant: str
    entries: int
    head: str
    """Hash of the last good entry."""
    broken_at: int | None
    """Number of the first entry that is not what was written, or is missing."""


def record(
    session: Session,
    tenant: str,
    actor: str,
    action: str,
    subject: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Append an entry within the transaction of the change itself: both happen, or neither.

    Args:
        session: of the change.
        tenant: whose log it is.
        actor: who did it: a user of the machine, a run, an API key.
        action: as in `kb.apply`: what it was done to, and a verb.
        subject: the key, name or id of what was changed.
        before: what the change replaces; None when it is new. Never a secret.
        after: what it is now; None when it is gone.
    """
    advisory_lock(session, f"kb audit {tenant}")
    newest = select(AuditEntry).where(AuditEntry.tenant == tenant).order_by(AuditEntry.number.desc()).limit(1)
    last = session.scalars(newest).first()
    entry = AuditEntry(
        tenant=tenant, number=(last.number if last else 0) + 1, at=datetime.now(UTC), actor=actor, action=action,
        subject=subject, before=dict(before) if before is not None else None,
        after=dict(after) if after is not None else None,
    )  # fmt: skip
    entry.hash = _hash(last.hash if last else _START, entry)
    session.add(entry)
    session.flush()


def list_entries(db: Database, tenant: str, *, after: int = 0, limit: int | None = None) -> Iterator[AuditRecord]:
    """Yield a tenant's log, oldest first.

    Args:
        db: the control plane.
        tenant: whose log.
        after: the number of the entry after which to begin.
        limit: the most that are returned; None for all.
    """
    later = select(AuditEntry).where(AuditEntry.number > after).order_by(AuditEntry.number).limit(limit)
    with db.read(tenant) as session:
        for row in session.scalars(later).yield_per(500):
            yield AuditRecord(row.number, row.at, row.actor, row.action, row.subject, row.before, row.after, row.hash)


def verify(db: Database, *, after: str | None = None, limit: int | None = None) -> list[Chain]:
    """Recompute every chain, the installation's first.

    Args:
        db: the control plane.
        after: the tenant after whose chain to begin, in the order of names; None for all.
        limit: the most chains that are recomputed; None for all.
    """
    named = select(AuditEntry.tenant).distinct().order_by(AuditEntry.tenant).limit(limit)
    with db.read_all() as session:
        tenants = session.scalars(named if after is None else named.where(AuditEntry.tenant > after)).all()
    return [verify_tenant(db, tenant) for tenant in tenants]


def verify_tenant(db: Database, tenant: str) -> Chain:
    """Recompute one tenant's chain, up to the first entry that does not fit."""
    head, count = _START, 0
    with db.read(tenant) as session:
        for entry in session.scalars(select(AuditEntry).order_by(AuditEntry.number)).yield_per(500):
            if entry.number != count + 1 or entry.hash != _hash(head, entry):
                return Chain(tenant, count, head, count + 1)
            head, count = entry.hash, count + 1
    return Chain(tenant, count, head, None)


def _hash(previous: str, entry: AuditEntry) -> str:
    said = [
        previous, entry.tenant, entry.number, entry.at.isoformat(), entry.actor, entry.action, entry.subject,
        entry.before, entry.after,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(said, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
