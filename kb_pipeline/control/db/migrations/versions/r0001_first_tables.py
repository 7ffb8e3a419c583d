"""The tables of the first releases, which kept no revisions: a home of theirs has some or all of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create what is not there."""
    op.create_table(
        "erasures",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("kb", sa.String(length=63), nullable=False),
        sa.Column("document_id", sa.String(length=32), nullable=False),
        sa.Column("receipt", sa.JSON(), nullable=False),
        sa.Column("erased_at", _TIME, nullable=False),
        sa.Column("lifted_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("tenant", "kb", "document_id"),
        if_not_exists=True,
    )
    op.create_table(
        "failures",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("kb", sa.String(length=63), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("source", sa.String(length=63), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("recoverable", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_seen", _TIME, nullable=False),
        sa.Column("last_seen", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "kb", "id"),
        if_not_exists=True,
    )
    op.create_table(
        "host_clocks",
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("last_at", sa.Float(), nullable=False),
        sa.Column("holder", sa.String(length=160), nullable=False),
        sa.Column("held_until", sa.Float(), nullable=False),
        sa.Column("retry_at", sa.Float(), nullable=False),
        sa.Column("slowdown_s", sa.Float(), nullable=False),
        sa.Column("busy_in_a_row", sa.Integer(), nullable=False),
        sa.Column("latency_s", sa.Float(), nullable=False),
        sa.Column("usual_s", sa.Float(), nullable=False),
        sa.Column("answers", sa.Integer(), nullable=False),
        sa.Column("crawl_delay_s", sa.Float(), nullable=False),
        sa.Column("crawl_delay_until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("host"),
        if_not_exists=True,
    )
    op.create_table(
        "host_guests",
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("guest", sa.String(length=160), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("delay_s", sa.Float(), nullable=False),
        sa.Column("wants", sa.Boolean(), nullable=False),
        sa.Column("free_until", sa.Float(), nullable=False),
        sa.Column("last_turn_at", sa.Float(), nullable=False),
        sa.Column("seen_until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("host", "guest"),
        if_not_exists=True,
    )
    op.create_table(
        "kbs",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("kb", sa.String(length=63), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("cron", sa.String(length=200), nullable=True),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("live_version", sa.Integer(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "kb"),
        if_not_exists=True,
    )
    op.create_table(
        "leases",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("kb", sa.String(length=63), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "kb"),
        if_not_exists=True,
    )
    op.create_table(
        "refreshes",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("kb", sa.String(length=63), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("stages", sa.JSON(), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=True),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("stage_started_at", _TIME, nullable=True),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("tenant", "kb", "run_id"),
        if_not_exists=True,
    )
    op.create_table(
        "rollbacks",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("kb", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("from_version", sa.Integer(), nullable=False),
        sa.Column("to_version", sa.Integer(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "kb", "number"),
        if_not_exists=True,
    )
    op.create_table(
        "spec_revisions",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("kb", sa.String(length=63), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("applied_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "kb", "revision"),
        if_not_exists=True,
    )
    op.create_table(
        "versions",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("kb", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("published_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("tenant", "kb", "version"),
        if_not_exists=True,
    )
