"""Run by Alembic: migrates over the connection that `schema_revision.upgrade` opened and locked."""

from __future__ import annotations

from alembic import context

from kb_pipeline.control.db.models import Base
from kb_pipeline.control.db.schema_revision import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,  # Dagster keeps its own `alembic_version` in the same database
    render_as_batch=True,
)
context.run_migrations()
