"""API keys and secrets of tenants."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kb_pipeline.control.db.migrations.isolation import isolate

revision = "0005"
down_revision = "0004"

_TIME = sa.DateTime(timezone=True)
_SLUG = sa.String(length=63)


def upgrade() -> None:
    """Both start empty."""
    op.create_table(
        "api_keys",
        sa.Column("tenant", _SLUG, nullable=False),
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("label", sa.String(length=100), nullable=False),
        sa.Column("hash", sa.String(length=200), nullable=False),
        sa.Column("scopes", sa.String(length=64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=True),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.Column("last_used_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("tenant", "id"),
    )
    op.create_table(
        "secrets",
        sa.Column("tenant", _SLUG, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("updated_by", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name"),
    )
    for table in ("api_keys", "secrets"):
        isolate(table)
