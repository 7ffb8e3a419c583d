"""Opens the control plane's database: SQLite by default, Postgres when told so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from kb_pipeline.control.db.schema_revision import upgrade
from kb_pipeline.control.db.tenant_session import TenantSession
from kb_pipeline.errors import InvalidSetting

_BUSY_TIMEOUT_S = 30.0
"""How long a writer on SQLite waits for another one."""
POOL_SIZE = 5
"""Connections that a pool keeps open."""
MAX_OVERFLOW = 15
"""Connections that a pool opens beyond those while all are in use, and closes when they come back."""
POOL_TIMEOUT_S = 60.0
"""How long a thread waits for a connection while all of them are in use; then SQLAlchemy raises TimeoutError."""
_RECYCLE_S = 1800.0
"""Age at which a connection to a server is opened anew: firewalls and proxies drop those that are idle for long."""
_POOL = {"pool_size": POOL_SIZE, "max_overflow": MAX_OVERFLOW, "pool_timeout": POOL_TIMEOUT_S}


class Database:
    """The control plane, its schema made or brought up to date when it is opened.

    It is safe in many threads: each session takes a connection of a pool for as long as it is open, and so does a
    generator of rows until it is exhausted or closed. A pool has at most POOL_SIZE + MAX_OVERFLOW connections; more
    threads than that wait for one another. On SQLite there are two pools: one for what must survive a power cut, one
    for what need not.
    """

    def __init__(self, url: str) -> None:
        self.url = _read_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = open_engine(url)
        self._hasty = _sqlite_engine(self.url, "NORMAL") if self.is_sqlite else self.engine
        upgrade(self.engine)

    @contextmanager
    def read(self, tenant: str) -> Iterator[Session]:
        """Open a session for reading one tenant's rows; it commits nothing."""
        with TenantSession(self.engine, tenant) as session:
            yield session

    @contextmanager
    def write(self, tenant: str, *, durably: bool = True) -> Iterator[Session]:
        """Open a transaction over one tenant's rows, committed at the end, rolled back by any exception.

        Args:
            tenant: whose.
            durably: False saves waiting for the disk; a power cut may then lose the transaction, but none before it.
        """
        with TenantSession(self._writing(durably=durably), tenant) as session, session.begin():
            self._set_durability(session, durably=durably)
            yield session

    @contextmanager
    def read_all(self) -> Iterator[Session]:
        """Open a session for reading across tenants: for the operator's programs, never for a tenant's request."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write_all(self, *, durably: bool = True) -> Iterator[Session]:
        """Open a transaction across tenants.

        Args:
            durably: False saves waiting for the disk; a power cut may then lose the transaction, but none before it.
        """
        with Session(self._writing(durably=durably), expire_on_commit=False) as session, session.begin():
            self._set_durability(session, durably=durably)
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Open a transaction that sees all rows as they were at its beginning, whatever is written meanwhile."""
        engine = self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="REPEATABLE READ")
        with engine.begin() as connection:
            yield connection

    def _set_durability(self, session: Session, *, durably: bool) -> None:
        if not (durably or self.is_sqlite):
            session.connection().execute(text("SET LOCAL synchronous_commit TO OFF"))

    def _writing(self, *, durably: bool) -> Engine:
        # On SQLite the write lock is taken at the start: a lock upgrade half-way could only fail.
        return (self.engine if durably else self._hasty).execution_options(immediate=True)

    def vacuum(self) -> None:
        """Remove what is left of deleted rows from SQLite's files; while somebody reads, a later writer does it."""
        if not self.is_sqlite:
            return  # Postgres does so by itself, in its own time
        connection = self.engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.close()
        finally:
            connection.close()

    def dispose(self) -> None:
        """Close every connection that is not in use; those that are close when they come back."""
        self.engine.dispose()
        self._hasty.dispose()


def advisory_lock(session: Session, name: str) -> None:
    """Wait until no other transaction holds the lock of that name, and hold it to the end of this one.

    On SQLite there is only one writer at a time anyway.
    """
    connection = session.connection()
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": name})


def database_now(session: Session) -> float:
    """Return the Unix time by the one clock that all writers of the database share."""
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)


def _read_url(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):  # what they say may repeat the password
        allowed = "is not a database URL; percent-encode what is special in its password: @ as %40, / as %2F"
        raise InvalidSetting("KB_DATABASE_URL", allowed) from None


def open_engine(url: str) -> Engine:
    """Open a pool of connections to a database, whatever its schema; raise InvalidSetting."""
    parsed = _read_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed, "FULL")
    return _postgres_engine(parsed)


def _postgres_engine(url: URL) -> Engine:
    # hide_parameters: an error must not repeat what rows hold.
    engine = create_engine(url, pool_pre_ping=True, pool_recycle=_RECYCLE_S, hide_parameters=True, **_POOL)

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: object, _record: object, arguments: Any, options: Any) -> Any:  # noqa: ANN401 - the driver's
        from kb_pipeline.control.db.postgres_connection import WholeStatements

        return WholeStatements.connect(*arguments, **options)

    return engine


def _sqlite_engine(url: URL, synchronous: str) -> Engine:
    database = url.database
    if not database or database == ":memory:":
        # What is in memory belongs to one connection, and so to one thread.
        raise InvalidSetting("KB_DATABASE_URL", "SQLite needs a file, as in sqlite:///PATH")
    Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S}, hide_parameters=True, **_POOL)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - the DBAPI has no type
        connection.isolation_level = None  # BEGIN is ours: the driver's own comes too late and never IMMEDIATE
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")  # FULL: the live pointer must survive a power cut
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA secure_delete=ON")  # what is deleted is not to be read in the file

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine
