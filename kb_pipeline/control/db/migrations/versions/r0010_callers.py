"""API keys for some KBs only and with rates of their own, keys of operators, and the token buckets of rates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kb_pipeline.control.db.migrations.isolation import isolate

revision = "0010"
down_revision = "0009"

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Keys that there are stay good for all KBs of their tenant, without a rate; every bucket is full."""
    op.add_column("api_keys", sa.Column("kbs", sa.JSON(), nullable=True))
    op.create_table(
        "operator_keys",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("label", sa.String(length=100), nullable=False),
        sa.Column("hash", sa.String(length=200), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("expires_at", _TIME, nullable=True),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.Column("last_used_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.add_column("api_keys", sa.Column("requests_per_minute", sa.Integer(), nullable=True))
    op.create_table(
        "rate_buckets",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("bucket", sa.String(length=16), nullable=False),
        sa.Column("level", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "bucket"),
    )
    isolate("rate_buckets")
