"""Tenants with a plan, an audit log, retired keys; every tenant's rows behind row-level security."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from kb_pipeline.control.db.migrations.isolation import isolate, make_role, share

revision = "0002"
down_revision = "0001"

_TIME = sa.DateTime(timezone=True)
_SLUG = sa.String(length=63)
_OF_KB = ("erasures", "failures", "kbs", "leases", "refreshes", "rollbacks", "spec_revisions", "versions")


def upgrade() -> None:
    """Everybody who has a KB becomes a tenant of the plan `default`."""
    op.create_table(
        "plans",
        sa.Column("name", _SLUG, primary_key=True),
        sa.Column("limits", sa.JSON(), nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
    )
    tenants = op.create_table(
        "tenants",
        sa.Column("tenant", _SLUG, primary_key=True),
        sa.Column("plan", _SLUG, nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("delete_at", _TIME, nullable=True),
    )
    op.create_table(
        "retired_keys",
        sa.Column("key", sa.String(length=127), primary_key=True),
        sa.Column("receipt", sa.JSON(), nullable=False),
        sa.Column("retired_at", _TIME, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("tenant", _SLUG, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("after", sa.JSON(), nullable=True),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "number"),
    )
    now = datetime.now(UTC)
    kbs = sa.table("kbs", sa.column("tenant", _SLUG))
    for tenant in op.get_bind().scalars(sa.select(kbs.c.tenant).distinct()).all():
        row = {"tenant": tenant, "plan": "default", "status": "active", "reason": "", "created_at": now}
        op.execute(tenants.insert().values(**row, updated_at=now))
    make_role()
    for table in (*_OF_KB, "tenants"):
        isolate(table)
    isolate("audit", "SELECT, INSERT")
    share("plans")
