"""Flags: what the operator set of them, whom for, and what each refresh went by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kb_pipeline.control.db.migrations.isolation import isolate, share

revision = "0003"
down_revision = "0002"

_TIME = sa.DateTime(timezone=True)
_SLUG = sa.String(length=63)


def upgrade() -> None:
    """Nobody has set anything yet."""
    op.create_table(
        "flags",
        sa.Column("name", _SLUG, primary_key=True),
        sa.Column("variant", _SLUG, nullable=True),
        sa.Column("rollout", sa.JSON(), nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
    )
    op.create_table(
        "flag_overrides",
        sa.Column("tenant", _SLUG, nullable=False),
        sa.Column("flag", _SLUG, nullable=False),
        sa.Column("kb", _SLUG, nullable=False),
        sa.Column("variant", _SLUG, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "flag", "kb"),
    )
    changes = op.create_table(
        "flag_changes",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute(changes.insert().values(id=1, number=0))
    op.add_column("refreshes", sa.Column("flags", sa.JSON(), nullable=True))
    share("flags")
    share("flag_changes")
    isolate("flag_overrides")
