"""Which revision of the schema a control plane has, and its way to the one that this code needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from kb_pipeline.errors import SchemaTooNew

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0010"
"""The revision that the models in schema.py describe."""
VERSION_TABLE = "kb_schema_revision"
_LOCK = 0x6B625F70  # "kb_p": any constant all our processes agree on


def current_revision(connection: Connection) -> str | None:
    """Return the schema revision of a database; None when it is empty, or older than revisions."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 - a constant
    return found


def known_revisions() -> list[str]:
    """All that this release knows, oldest first."""
    from alembic.script import ScriptDirectory

    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def upgrade(engine: Engine, to: str = HEAD) -> None:
    """Bring a database to a revision, in one transaction: interrupted, it starts again from where it was.

    Others who open the database meanwhile wait.

    Raises:
        SchemaTooNew: a newer release has migrated it; nothing was changed.
    """
    with engine.connect() as connection:
        if current_revision(connection) == to:
            return
    with engine.execution_options(immediate=True).begin() as connection:
        if connection.dialect.name != "sqlite":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        _migrate(connection, to)


def _migrate(connection: Connection, to: str) -> None:
    from alembic import command  # a quarter of a second, and needed once after each upgrade
    from alembic.script import ScriptDirectory

    config = _config()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    found = current_revision(connection)
    if found is not None and found not in known:
        raise SchemaTooNew(found, HEAD)
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config
