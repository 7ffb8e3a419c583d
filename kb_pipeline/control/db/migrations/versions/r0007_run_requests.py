"""Refreshes that were asked for and wait for a sensor."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kb_pipeline.control.db.migrations.isolation import isolate

revision = "0007"
down_revision = "0006"

_SLUG = sa.String(length=63)


def upgrade() -> None:
    """Nothing waits yet."""
    op.create_table(
        "run_requests",
        sa.Column("tenant", _SLUG, nullable=False),
        sa.Column("kb", _SLUG, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("wishes", sa.String(length=64), nullable=False),
        sa.Column("requested_by", sa.String(length=200), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "kb", "id"),
    )
    isolate("run_requests")
