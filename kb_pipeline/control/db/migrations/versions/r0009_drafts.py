"""Drafts of KBs, and requests that are done once however often they are sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kb_pipeline.control.db.migrations.isolation import isolate

revision = "0009"
down_revision = "0008"

_TIME = sa.DateTime(timezone=True)
_SLUG = sa.String(length=63)


def upgrade() -> None:
    """There are none yet."""
    op.create_table(
        "idempotent_requests",
        sa.Column("tenant", _SLUG, nullable=False),
        sa.Column("caller", sa.String(length=200), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "caller", "key"),
    )
    op.create_table(
        "kb_drafts",
        sa.Column("tenant", _SLUG, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("minutes", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "id"),
    )
    for table in ("idempotent_requests", "kb_drafts"):
        isolate(table)
