"""Prices of plans, the ledger of usage, the buckets of daily quotas, until when a KB is snoozed."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from kb_pipeline.control.db.migrations.isolation import isolate

revision = "0006"
down_revision = "0005"

_TIME = sa.DateTime(timezone=True)
_SLUG = sa.String(length=63)


def upgrade() -> None:
    """A plan that tenants were given before plans were files becomes one without limits."""
    op.add_column("plans", sa.Column("prices", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("kbs", sa.Column("snoozed_until", _TIME, nullable=True))
    op.create_table(
        "usage",
        sa.Column("tenant", _SLUG, nullable=False),
        sa.Column("kb", _SLUG, nullable=False),
        sa.Column("unit", sa.String(length=200), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("operation", sa.String(length=20), nullable=False),
        sa.Column("model", sa.String(length=500), nullable=False),
        sa.Column("pages", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("pending", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "kb", "unit"),
    )
    op.create_index("ix_usage_day", "usage", ["day"])
    op.create_table(
        "buckets",
        sa.Column("tenant", _SLUG, nullable=False),
        sa.Column("kb", _SLUG, nullable=False),
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "kb", "key"),
    )
    _keep_named_plans()
    for table in ("usage", "buckets"):
        isolate(table)


def _keep_named_plans() -> None:
    plans = sa.table(
        "plans", sa.column("name", _SLUG), sa.column("limits", sa.JSON()), sa.column("prices", sa.JSON()),
        sa.column("updated_at", _TIME),
    )  # fmt: skip
    tenants = sa.table("tenants", sa.column("plan", _SLUG))
    known = set(op.get_bind().scalars(sa.select(plans.c.name)))
    for name in sorted(set(op.get_bind().scalars(sa.select(tenants.c.plan).distinct())) - known - {"default"}):
        op.execute(plans.insert().values(name=name, limits={}, prices={}, updated_at=datetime.now(UTC)))
