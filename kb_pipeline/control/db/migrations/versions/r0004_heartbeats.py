"""Signs of life of the processes that execute runs; no tenant's to read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Nobody has given one yet: a run of the release before is judged by its start."""
    op.create_table(
        "heartbeats",
        sa.Column("run_id", sa.String(length=64), primary_key=True),
        sa.Column("machine", sa.String(length=120), nullable=False),
        sa.Column("process", sa.String(length=60), nullable=False),
        sa.Column("beat_at", sa.Float(), nullable=False),
    )
