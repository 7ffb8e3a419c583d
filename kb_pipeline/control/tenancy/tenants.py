"""The tenants of this installation: their names, their plans, whether their KBs may be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Kb, RetiredKey, Tenant
from kb_pipeline.control.tenancy import audit
from kb_pipeline.control.tenancy.plans import DEFAULT_PLAN, require_plan
from kb_pipeline.errors import KeyRetired, RemovalBegun, TenantExists, TenantInactive, UnknownTenant
from kb_pipeline.model import Record, check_slug

UNFINISHED = "unfinished"
"""Status of the receipt of a removal that has begun and not come to its end."""


@dataclass(frozen=True, slots=True)
class TenantRecord(Record):
    """A tenant as the control plane knows it."""

    tenant: str
    plan: str
    status: str
    """active, suspended, deleting or removing."""
    reason: str
    """Why it is not active, in the words of whoever decided it."""
    kbs: int
    """How many KBs it has."""
    created_at: datetime
    delete_at: datetime | None
    """When a tenant that is `deleting` is removed for good."""


def create_tenant(db: Database, tenant: str, plan: str, actor: str, *, reuse: bool = False) -> None:
    """Add a tenant.

    Raises:
        InvalidKey: the name cannot be part of a KB's key.
        TenantExists: there is one of that name.
        KeyRetired: there was one; `reuse` gives its name to the new one.
        UnknownPlan: there is no such plan.
    """
    check_slug(tenant)
    check_not_retired(db, tenant, reuse=reuse)
    with db.write(tenant) as session:
        if session.get(Tenant, tenant) is not None:
            raise TenantExists(tenant)
        require_plan(session, plan)
        _add(session, tenant, plan, actor)


def ensure_tenant(session: Session, tenant: str, actor: str) -> None:
    """Within a transaction: make it a tenant of the default plan if there is none such; raises TenantInactive."""
    row = session.get(Tenant, tenant)
    if row is None:
        _add(session, tenant, DEFAULT_PLAN, actor)
    elif row.status != "active":
        raise TenantInactive(tenant, row.status, row.reason)


def _add(session: Session, tenant: str, plan: str, actor: str) -> None:
    now = datetime.now(UTC)
    session.add(Tenant(tenant=tenant, plan=plan, status="active", created_at=now, updated_at=now))
    audit.record(session, tenant, actor, "tenant.create", tenant, None, {"plan": plan, "status": "active"})


def get_tenant(db: Database, tenant: str) -> TenantRecord:
    """Return one tenant; raises UnknownTenant."""
    with db.read(tenant) as session:
        return _record(session, _get(session, tenant))


def list_tenants(db: Database) -> Iterator[TenantRecord]:
    """Yield every tenant, by name."""
    counted = select(Kb.tenant, func.count()).group_by(Kb.tenant)
    with db.read_all() as session:
        kbs = dict(session.execute(counted).all())
        for row in session.scalars(select(Tenant).order_by(Tenant.tenant)):
            yield _record_of(row, kbs.get(row.tenant, 0))


def set_status(db: Database, tenant: str, status: str, reason: str, actor: str) -> TenantRecord:
    """Suspend a tenant (no run, no search) or let it go on, also one that was to be deleted.

    Raises:
        UnknownTenant: there is none such.
        RemovalBegun: a part of it is gone already.
    """
    action = {"suspended": "tenant.suspend", "active": "tenant.resume"}[status]
    with db.write(tenant) as session:
        row = _get_whole(session, tenant)
        before = {"status": row.status, "reason": row.reason}
        row.status, row.reason, row.delete_at, row.updated_at = status, reason, None, datetime.now(UTC)
        audit.record(session, tenant, actor, action, tenant, before, {"status": status, "reason": reason})
        return _record(session, row)


def schedule_deletion(db: Database, tenant: str, grace: timedelta, actor: str) -> TenantRecord:
    """From now on no run and no search; after the grace the tenant is removed, unless it is resumed before.

    Raises:
        UnknownTenant: there is none such.
        RemovalBegun: a part of it is gone already.
    """
    with db.write(tenant) as session:
        row, now = _get_whole(session, tenant), datetime.now(UTC)
        before = {"status": row.status, "reason": row.reason}
        row.status, row.updated_at, row.delete_at = "deleting", now, now + grace
        after = {"status": "deleting", "delete_at": row.delete_at.isoformat()}
        audit.record(session, tenant, actor, "tenant.delete", tenant, before, after)
        return _record(session, row)


def set_plan(db: Database, tenant: str, plan: str, actor: str) -> TenantRecord:
    """Give a tenant another plan; raises UnknownTenant or UnknownPlan."""
    with db.write(tenant) as session:
        row = _get(session, tenant)
        require_plan(session, plan)
        audit.record(session, tenant, actor, "tenant.plan", tenant, {"plan": row.plan}, {"plan": plan})
        row.plan, row.updated_at = plan, datetime.now(UTC)
        return _record(session, row)


def require_active(db: Database, tenant: str) -> None:
    """Raise TenantInactive or UnknownTenant unless the tenant's KBs may be refreshed and searched."""
    with db.read(tenant) as session:
        row = session.get(Tenant, tenant)
    check_active(tenant, row)


def check_active(tenant: str, row: Tenant | None) -> None:
    """Raise TenantInactive or UnknownTenant unless a tenant's row, as it was read, is that of an active one."""
    if row is None:
        raise UnknownTenant(tenant)
    if row.status != "active":
        raise TenantInactive(tenant, row.status, row.reason)


def is_active(db: Database, tenant: str) -> bool:
    """Return whether the tenant's KBs may be refreshed and searched."""
    with db.read(tenant) as session:
        row = session.get(Tenant, tenant)
    return row is not None and row.status == "active"


def check_not_retired(db: Database, key: str, *, reuse: bool) -> None:
    """Check that a key is not that of a deleted tenant or KB, unless it may be reused.

    Raises:
        KeyRetired: it is such a key, and nobody said that it may be reused.
        RemovalBegun: not all of the former one is gone yet.
    """
    with db.read_all() as session:
        row = session.get(RetiredKey, key)
    if row is None:
        return
    if row.receipt.get("status") == UNFINISHED:
        raise RemovalBegun(key)
    if not reuse:
        raise KeyRetired(key, row.retired_at)


def last_token_of(db: Database, key: str) -> int:
    """Return the last fencing token of a deleted KB that had this key; 0 if there was none."""
    with db.read_all() as session:
        row = session.get(RetiredKey, key)
    return int(row.receipt.get("lease_token", 0)) if row is not None else 0


def _get_whole(session: Session, tenant: str) -> Tenant:
    row = _get(session, tenant)
    if row.status == "removing":
        raise RemovalBegun(tenant)
    return row


def _get(session: Session, tenant: str) -> Tenant:
    row = session.get(Tenant, tenant)
    if row is None:
        raise UnknownTenant(tenant)
    return row


def _record(session: Session, row: Tenant) -> TenantRecord:
    kbs = session.scalar(select(func.count(Kb.kb)).where(Kb.tenant == row.tenant))
    return _record_of(row, kbs or 0)


def _record_of(row: Tenant, kbs: int) -> TenantRecord:
    return TenantRecord(row.tenant, row.plan, row.status, row.reason or "", kbs, row.created_at, row.delete_at)
