"""Jobs, which requests for refreshes and runs that nobody asked for become, and their events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from kb_pipeline.control.db.migrations.isolation import isolate

revision = "0008"
down_revision = "0007"

_TIME = sa.DateTime(timezone=True)
_SLUG = sa.String(length=63)
_JOBS_OF_REQUESTS = """
INSERT INTO kb_jobs (tenant, kb, id, wishes, requested_by, requested_at, run_id, ended_at, percent, last_event)
SELECT q.tenant, q.kb, q.id, q.wishes, q.requested_by, q.requested_at, q.run_id, r.ended_at,
       CASE WHEN r.ended_at IS NULL THEN 0 ELSE 100 END, 0
FROM run_requests q
LEFT JOIN refreshes r ON r.tenant = q.tenant AND r.kb = q.kb AND r.run_id = q.run_id
"""
_JOBS_OF_OTHER_RUNS = """
INSERT INTO kb_jobs (tenant, kb, id, wishes, requested_by, requested_at, run_id, ended_at, percent, last_event)
SELECT r.tenant, r.kb, r.run_id, '', 'unknown', r.started_at, r.run_id, r.ended_at,
       CASE WHEN r.ended_at IS NULL THEN 0 ELSE 100 END, 0
FROM refreshes r
WHERE NOT EXISTS (
    SELECT 1 FROM run_requests q WHERE q.tenant = r.tenant AND q.kb = r.kb AND q.run_id = r.run_id
)
"""


def upgrade() -> None:
    """Whatever was asked for or has run is a job, of which no events are known."""
    op.create_table(
        "kb_jobs",
        sa.Column("tenant", _SLUG, nullable=False),
        sa.Column("kb", _SLUG, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("wishes", sa.String(length=64), nullable=False),
        sa.Column("requested_by", sa.String(length=200), nullable=False),
        sa.Column("requested_at", _TIME, nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=True),
        sa.Column("traceparent", sa.String(length=55), nullable=True),
        sa.Column("cancel_requested_at", _TIME, nullable=True),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.Column("percent", sa.Float(), nullable=False),
        sa.Column("last_event", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "kb", "id"),
    )
    op.create_index("ix_kb_jobs_id", "kb_jobs", ["id"])
    op.create_index("ix_kb_jobs_run_id", "kb_jobs", ["run_id"])
    op.create_index("ix_kb_jobs_age", "kb_jobs", ["tenant", "requested_at", "id"])
    op.create_table(
        "kb_job_events",
        sa.Column("tenant", _SLUG, nullable=False),
        sa.Column("kb", _SLUG, nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("type", sa.String(length=20), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "kb", "job_id", "number"),
    )
    op.execute(_JOBS_OF_REQUESTS)
    op.execute(_JOBS_OF_OTHER_RUNS)
    op.drop_table("run_requests")
    for table in ("kb_jobs", "kb_job_events"):
        isolate(table)
