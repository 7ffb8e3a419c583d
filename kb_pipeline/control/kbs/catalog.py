"""Which KBs exist and what their owners wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import AuditEntry, Job, Kb, Lease, Refresh, SpecRevision, Tenant
from kb_pipeline.control.metering.limits import check_allowed
from kb_pipeline.control.tenancy import audit
from kb_pipeline.control.tenancy.secrets import variables_of
from kb_pipeline.control.tenancy.tenants import check_not_retired, ensure_tenant, last_token_of, require_active
from kb_pipeline.control.tenancy.token_holder import is_tenants_actor
from kb_pipeline.errors import UnknownKb, UnknownTenant
from kb_pipeline.model import JsonObject, KbKey, Record
from kb_pipeline.settings import Settings
from kb_pipeline.spec.kb_file import KbSpec, parse_stored, written_fields
from kb_pipeline.spec.variables import variable_names

_IS_ACTIVE = select(Tenant.tenant).where(Tenant.tenant == Kb.tenant, Tenant.status == "active").exists()
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
    _db: Database = field(repr=False, compare=False)

    def read_spec(self, settings: Settings) -> KbSpec:
        """Return the validated spec, with today's value of each `${NAME}`; raises InvalidSpec or SecretUnreadable."""
        names = variable_names(self.yaml)
        variables = variables_of(settings, self._db, self.key.tenant, names) if names else {}
        return parse_stored(self.yaml, f"KB {self.key}, revision {self.revision}", variables)


@dataclass(frozen=True, slots=True)
class AppliedFile(Record):
    """The KB file that is in force, as `kb show` prints it."""

    kb: KbKey
    revision: int
    """1 for the first file, one more for each that said something else."""
    applied_at: datetime
    applied_by: str
    yaml: str
    """Golden queries of a file beside it are part of it; `${NAME}` stands as it is written."""

    def fields(self) -> JsonObject:
        """Return its fields, as they are written."""
        return written_fields(self.yaml)


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
    return store_spec(db, spec, yaml, actor)


def store_spec(db: Database, spec: KbSpec, yaml: str, actor: str) -> Action:
    """Create or update a KB whose owner and plan have been checked; see `apply_spec`. Raises TenantInactive."""
    token = last_token(db, spec.key)
    with db.write(spec.tenant) as session:
        return store_within(session, spec, yaml, actor, token)


def last_token(db: Database, key: KbKey) -> int:
    """Return the last fencing token of a deleted KB of that key, with which its successor goes on; 0 without one."""
    return last_token_of(db, str(key))


def store_within(session: Session, spec: KbSpec, yaml: str, actor: str, token: int) -> Action:
    """Create or update a KB within a transaction of its tenant's; see `store_spec`.

    Args:
        session: of the transaction.
        spec: what the KB file says; owner and plan have been checked.
        yaml: the file's text.
        actor: who applies it.
        token: see `last_token`.
    """
    now = datetime.now(UTC)
    ensure_tenant(session, spec.tenant, actor)
    row = session.get(Kb, (spec.tenant, spec.kb))
    if row is not None and row.spec == yaml:
        _note_authority(session, spec.key, row.revision, actor)
        return "unchanged"
    action: Action = "updated" if row else "created"
    if row is None:
        row = Kb(tenant=spec.tenant, kb=spec.kb, revision=0, created_at=now)
        session.add(row)
    row.spec, row.updated_at, row.revision = yaml, now, row.revision + 1
    row.cron = spec.schedule.cron if spec.schedule else None
    row.timezone = spec.schedule.timezone if spec.schedule else "UTC"
    if action == "created" and token:
        # Tokens go on: a writer of the former KB must not be taken for one of this.
        session.merge(Lease(tenant=spec.tenant, kb=spec.kb, owner="", token=token, expires_at=0.0))
    audit.record(
        session, spec.tenant, actor, "kb.apply", str(spec.key),
        {"revision": row.revision - 1} if action == "updated" else None, {"revision": row.revision},
    )  # fmt: skip
    session.add(SpecRevision(tenant=spec.tenant, kb=spec.kb, revision=row.revision, spec=yaml, applied_at=now))
    return action


def is_operators(db: Database, key: KbKey) -> bool:
    """Return whether whoever runs the installation applied the KB's file as it is; else somebody for the tenant did.

    The audit log says it: an entry of `kb.apply` is written with each revision, by that token or by the operator.
    """
    with db.read(key.tenant) as session:
        return _applied_by_operator(session, key)


def _applied_by_operator(session: Session, key: KbKey) -> bool:
    actor = _last_applier(session, key)
    return actor is not None and not is_tenants_actor(actor)


def _last_applier(session: Session, key: KbKey) -> str | None:
    query = select(AuditEntry.actor).where(
        AuditEntry.tenant == key.tenant, AuditEntry.action == "kb.apply", AuditEntry.subject == str(key)
    )
    return session.scalar(query.order_by(AuditEntry.number.desc()).limit(1))


def _note_authority(session: Session, key: KbKey, revision: int, actor: str) -> None:
    """Record that the operator takes over what a key applied: the same file may name more from now on."""
    if not is_tenants_actor(actor) and not _applied_by_operator(session, key):
        audit.record(session, key.tenant, actor, "kb.apply", str(key), {"revision": revision}, {"revision": revision})


def check_owner(db: Database, key: KbKey, *, reuse: bool = False) -> None:
    """Whether a KB of that key may be applied; raises TenantInactive, KeyRetired or RemovalBegun."""
    with db.read(key.tenant) as session:
        is_new = {
            key.tenant: session.get(Tenant, key.tenant) is None,
            str(key): session.get(Kb, (key.tenant, key.kb)) is None,
        }
    for each, new in is_new.items():
        if new:  # else it was reused knowingly before
            check_not_retired(db, each, reuse=reuse)
    with suppress(UnknownTenant):
        require_active(db, key.tenant)


def get_kb(db: Database, key: KbKey) -> KbRecord:
    """Return the KB of that key; raise UnknownKb."""
    with db.read(key.tenant) as session:
        row = session.get(Kb, (key.tenant, key.kb))
    if row is None:
        raise UnknownKb(key)
    return _record(db, row)


def file_in_force(db: Database, key: KbKey) -> AppliedFile:
    """Return the KB file in force; raise UnknownKb."""
    with db.read(key.tenant) as session:
        row = session.get(Kb, (key.tenant, key.kb))
        if row is None:
            raise UnknownKb(key)
        applied_by = _last_applier(session, key) or "unknown"
        return AppliedFile(key, row.revision, row.updated_at, applied_by, row.spec)


def list_kbs(db: Database, *, only_active: bool = False) -> Iterator[KbRecord]:
    """Every KB (of tenants that are active), by key."""
    query = select(Kb).order_by(Kb.tenant, Kb.kb)
    if only_active:
        query = query.where(_IS_ACTIVE)
    with db.read_all() as session:
        for row in session.scalars(query):
            yield _record(db, row)


def list_kbs_of(db: Database, tenant: str) -> Iterator[KbRecord]:
    """Yield the KBs of one tenant, by key."""
    with db.read(tenant) as session:
        for row in session.scalars(select(Kb).where(Kb.tenant == tenant).order_by(Kb.kb)):
            yield _record(db, row)


def list_unstarted_kbs(db: Database) -> Iterator[KbRecord]:
    """Every KB of an active tenant that no run has refreshed or is refreshing, and nobody has asked for, by key."""
    refreshed = select(Refresh.run_id).where(Refresh.tenant == Kb.tenant, Refresh.kb == Kb.kb).exists()
    asked_for = select(Job.id).where(Job.tenant == Kb.tenant, Job.kb == Kb.kb).exists()
    query = select(Kb).where(_IS_ACTIVE, Kb.live_version.is_(None), ~refreshed, ~asked_for)
    query = query.order_by(Kb.tenant, Kb.kb)
    with db.read_all() as session:
        for row in session.scalars(query):
            yield _record(db, row)


def _record(db: Database, row: Kb) -> KbRecord:
    return KbRecord(
        KbKey(row.tenant, row.kb),
        row.revision,
        row.cron,
        row.timezone,
        row.live_version,
        row.snoozed_until,
        row.created_at,
        row.spec,
        db,
    )
