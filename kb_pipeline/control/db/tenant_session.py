"""The unit of work of one tenant: whatever is asked of it, it sees and changes that tenant's rows only.

The first wall, on every database: each statement is narrowed to the tenant, each row written is looked at. On Postgres
row-level security is the second one, for which every transaction takes a role that owns nothing and names its tenant.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, with_loader_criteria

from kb_pipeline.control.db.models import SHARED, OfTenant
from kb_pipeline.errors import OutOfTenant

TENANT_ROLE = "kb_tenant"
"""On Postgres: neither owner nor above row-level security; made by the migrations."""
TENANT_SETTING = "kb.tenant"


class TenantSession(Session):
    """A session of one tenant; raises OutOfTenant for statements that cannot be narrowed to it."""

    def __init__(self, engine: Engine, tenant: str) -> None:
        super().__init__(engine, expire_on_commit=False, info={"tenant": tenant})


@event.listens_for(TenantSession, "after_begin")
def _enter_tenant(session: TenantSession, _: SessionTransaction, connection: Connection) -> None:
    """Both settings end with the transaction, however it ends: a pooled connection comes back without them."""
    if connection.dialect.name != "sqlite":
        settings = {"role": TENANT_ROLE, "setting": TENANT_SETTING, "tenant": session.info["tenant"]}
        connection.execute(
            text("SELECT set_config('role', :role, true), set_config(:setting, :tenant, true)"), settings
        )


@event.listens_for(TenantSession, "do_orm_execute")
def _narrow(state: ORMExecuteState) -> None:
    tenant: str = state.session.info["tenant"]
    if not state.is_orm_statement or state.is_insert:
        raise OutOfTenant(tenant, "only selects, updates and deletes of models are narrowed to a tenant")
    for mapper in state.all_mappers:
        if not issubclass(mapper.class_, (OfTenant, *SHARED)):
            raise OutOfTenant(tenant, f"{mapper.class_.__name__} belongs to no tenant")
        if not state.is_select and not issubclass(mapper.class_, OfTenant):
            raise OutOfTenant(tenant, f"{mapper.class_.__name__} is not the tenant's to change")
    # Also in joins, subqueries and what is loaded later.
    narrowed = with_loader_criteria(OfTenant, lambda model: model.tenant == tenant, include_aliases=True)
    state.statement = state.statement.options(narrowed)


@event.listens_for(TenantSession, "before_flush")
def _look_at_rows(session: TenantSession, _context: object, _instances: Any) -> None:  # noqa: ANN401 - always None
    tenant: str = session.info["tenant"]
    for row in (*session.new, *session.dirty, *session.deleted):
        if not isinstance(row, OfTenant) or row.tenant != tenant:
            raise OutOfTenant(tenant, f"a row of {type(row).__name__} is not the tenant's")
