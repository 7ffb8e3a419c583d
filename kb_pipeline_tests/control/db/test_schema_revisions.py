"""A control plane of any age becomes what the code needs, also when its migration was cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, create_engine, inspect, text

from kb_pipeline.control.db import schema_revision
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Base
from kb_pipeline.errors import SchemaTooNew

SCRIPTS = ScriptDirectory(str(Path(schema_revision.__file__).with_name("migrations")))
REVISIONS = [script.revision for script in reversed(list(SCRIPTS.walk_revisions()))]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'control.db'}"
    fresh: str = request.getfixturevalue("fresh_postgres")
    return fresh


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """As Database makes it, without bringing the schema up to date."""
    engine = create_engine(url)
    yield engine
    engine.dispose()


def put_a_kb(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO kbs (tenant, kb, spec, revision, timezone, created_at, updated_at) VALUES "
                "('acme', 'docs', 'tenant: acme', 1, 'UTC', '2026-01-01 00:00:00', '2026-01-01 00:00:00')"
            )
        )


def assert_up_to_date(engine: Engine) -> None:
    with engine.connect() as connection:
        assert schema_revision.current_revision(connection) == schema_revision.HEAD
        options = {
            "compare_type": True,
            "version_table": schema_revision.VERSION_TABLE,
            "include_name": lambda name, kind, _: kind != "table" or name in Base.metadata.tables,
        }
        assert compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata) == []


def test_the_newest_revision_is_the_one_that_the_code_names() -> None:
    assert SCRIPTS.get_heads() == [schema_revision.HEAD]


@pytest.mark.parametrize("start", [None, *REVISIONS])
def test_every_earlier_revision_becomes_what_the_models_say(url: str, engine: Engine, start: str | None) -> None:
    if start:
        schema_revision.upgrade(engine, start)
        put_a_kb(engine)
    Database(url).dispose()
    assert_up_to_date(engine)
    if start:
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT spec FROM kbs WHERE tenant = 'acme'")) == "tenant: acme"


def test_a_home_from_before_revisions_is_adopted_with_what_it_has(url: str, engine: Engine) -> None:
    schema_revision.upgrade(engine, REVISIONS[0])
    put_a_kb(engine)
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE {schema_revision.VERSION_TABLE}"))
        connection.execute(text("DROP TABLE host_guests"))
    Database(url).dispose()
    assert_up_to_date(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT tenant, plan, status FROM tenants")).one() == (
            "acme",
            "default",
            "active",
        )


def test_a_schema_that_a_newer_release_made_is_refused_unchanged(url: str, engine: Engine) -> None:
    Database(url).dispose()
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {schema_revision.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match="revision 9999, this release knows"):
        Database(url)
    with engine.connect() as connection:
        assert schema_revision.current_revision(connection) == "9999"


def test_many_who_open_a_new_control_plane_at_once_all_get_it(url: str, engine: Engine) -> None:
    failed: list[Exception] = []

    def open_it() -> None:
        try:
            Database(url).dispose()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test says
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert_up_to_date(engine)


_KILLED = """
import os, signal, sys
from sqlalchemy import event
from kb_pipeline.control.db.engine import Database
seen = 0
from sqlalchemy.engine import Engine
@event.listens_for(Engine, "before_cursor_execute")
def _count(connection, cursor, statement, *rest):
    global seen
    seen += statement.lstrip().upper().startswith(("CREATE", "ALTER", "INSERT"))
    if seen == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
Database(sys.argv[1])
"""


@pytest.mark.parametrize("statement", [2, 7, 13, 16])
def test_a_migration_that_is_killed_starts_again_from_where_it_was(url: str, engine: Engine, statement: int) -> None:
    schema_revision.upgrade(engine, REVISIONS[0])
    put_a_kb(engine)
    command = [sys.executable, "-c", _KILLED, url, str(statement)]
    killed = subprocess.run(command, env=os.environ, check=False)
    # On SQLite there are fewer statements than on Postgres: then it was through before.
    assert killed.returncode in {-signal.SIGKILL, 0}
    with engine.connect() as connection:
        found = schema_revision.current_revision(connection)
        assert found == (REVISIONS[0] if killed.returncode else schema_revision.HEAD)
        assert inspect(connection).has_table("tenants") == (killed.returncode == 0)
    Database(url).dispose()
    assert_up_to_date(engine)


@pytest.mark.upgrade("dagster")
def test_no_table_or_index_has_a_name_that_dagster_gives_one_of_its_own() -> None:
    """On Postgres the control plane and Dagster's storage are in one schema of one database."""
    from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
    from dagster._core.storage.runs.schema import RunStorageSqlMetadata
    from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata

    def names(metadata: MetaData) -> set[str]:
        tables = metadata.tables.values()
        return {table.name for table in tables} | {str(index.name) for table in tables for index in table.indexes}

    theirs = [SqlEventLogStorageMetadata, RunStorageSqlMetadata, ScheduleStorageSqlMetadata]
    assert not names(Base.metadata) & set().union(*map(names, theirs))
    assert "jobs" in names(ScheduleStorageSqlMetadata), "what it is compared with has tables"
