"""Which KBs exist and what their owners wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import select, tuple_

from kb_pipeline.control import audit
from kb_pipeline.control.database import Database
from kb_pipeline.control.quotas import check_allowed
from kb_pipeline.control.schema import Kb, SpecRevision
from kb_pipeline.control.tenants import check_not_retired, ensure_tenant, require_active
from kb_pipeline.errors import UnknownKb, UnknownTenant
from kb_pipeline.model import KbKey
from kb_pipeline.spec import KbSpec, parse_spec

Action = Literal["created", "updated", "unchanged"]


@dataclass(frozen=True, slots=True)
class KbRecord:
    """A KB as the catalogue knows it."""

    key: KbKey
    revision: int
    cron: str | None
    timezone: str
    live_version: int | None
    snoozed_until: datetime | None
    """No sensor starts a refresh before."""
    created_at: datetime
    yaml: str

    @property
    def spec(self) -> KbSpec:
        """The validated spec, `${NAME}` taken from today's environment; raises InvalidSpec."""
        return parse_spec(self.yaml, f"KB {self.key}, revision {self.revision}")


def apply_spec(db: Database, spec: KbSpec, yaml: str, actor: str, *, reuse: bool = False) -> Action:
    """Create or update the KB that `spec` describes, and its tenant, where that is new.

    Args:
        db: the control plane.
        spec: what the KB file says.
        yaml: the file's text, to be kept.
        actor: who applies it.
        reuse: whether a deleted KB's or tenant's key may be taken.

    Raises:
        TenantInactive: the tenant is suspended, or being deleted.
        KeyRetired: the key was that of a deleted KB or tenant.
        QuotaExceeded: the tenant's plan does not allow what it asks for.
    """
    check_owner(db, spec.key, reuse=reuse)
    check_allowed(db, spec)
    now = datetime.now(UTC)
    with db.write(spec.tenant) as session:
        ensure_tenant(session, spec.tenant, actor)
        row = session.get(Kb, (spec.tenant, spec.kb))
        if row is not None and row.spec == yaml:
            return "unchanged"
        action: Action = "updated" if row else "created"
        if row is None:
            row = Kb(tenant=spec.tenant, kb=spec.kb, revision=0, created_at=now)
            session.add(row)
        row.spec, row.updated_at, row.revision = yaml, now, row.revision + 1
        row.cron = spec.schedule.cron if spec.schedule else None
        row.timezone = spec.schedule.timezone if spec.schedule else "UTC"
        audit.record(
            session, spec.tenant, actor, "kb.apply", str(spec.key),
            {"revision": row.revision - 1} if action == "updated" else None, {"revision": row.revision},
        )  # fmt: skip
        session.add(SpecRevision(tenant=spec.tenant, kb=spec.kb, revision=row.revision, spec=yaml, applied_at=now))
    return action


def check_owner(db: Database, key: KbKey, *, reuse: bool = False) -> None:
    """Whether a KB of that key may be applied; raises TenantInactive or KeyRetired."""
    for each in (key.tenant, str(key)):
        check_not_retired(db, each, reuse=reuse)
    with suppress(UnknownTenant):
        require_active(db, key.tenant)


def get_kb(db: Database, key: KbKey) -> KbRecord:
    """The KB of that key; raises UnknownKb."""
    with db.read(key.tenant) as session:
        row = session.get(Kb, (key.tenant, key.kb))
    if row is None:
        raise UnknownKb(key)
    return _record(row)


def list_kbs(db: Database, after: KbKey | None = None) -> Iterator[KbRecord]:
    """Every KB (beyond `after`), by key."""
    query = select(Kb).order_by(Kb.tenant, Kb.kb)
    if after is not None:
        query = query.where(tuple_(Kb.tenant, Kb.kb) > (after.tenant, after.kb))
    with db.read_all() as session:
        for row in session.scalars(query):
            yield _record(row)


def _record(row: Kb) -> KbRecord:
    return KbRecord(
        KbKey(row.tenant, row.kb),
        row.revision,
        row.cron,
        row.timezone,
        row.live_version,
        row.snoozed_until,
        row.created_at,
        row.spec,
    )
