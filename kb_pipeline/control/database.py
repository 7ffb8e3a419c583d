"""Opens the control plane's database: SQLite by default, Postgres when told so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from kb_pipeline.control.schema_revision import upgrade
from kb_pipeline.control.tenant_session import TenantSession

_BUSY_TIMEOUT_MS = 30_000


class Database:
    """A pool of connections to the control plane, its schema made or brought up to date on first use."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(url, "FULL") if self.is_sqlite else create_engine(url, pool_pre_ping=True)
        self._hasty = _sqlite_engine(url, "NORMAL") if self.is_sqlite else self.engine
        upgrade(self.engine)

    @contextmanager
    def read(self, tenant: str) -> Iterator[Session]:
        """A session for reading what is one tenant's; nothing is committed."""
        with TenantSession(self.engine, tenant) as session:
            yield session

    @contextmanager
    def write(self, tenant: str) -> Iterator[Session]:
        """A transaction over what is one tenant's: committed at the end, rolled back by any exception."""
        with TenantSession(self._writing(durably=True), tenant) as session, session.begin():
            yield session

    @contextmanager
    def read_all(self) -> Iterator[Session]:
        """A session for reading across tenants: for what the operator's programs do, never for a tenant's request."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write_all(self, *, durably: bool = True) -> Iterator[Session]:
        """A transaction across tenants.

        What is not written durably may be lost by a power cut, with the transactions before it whole; it saves waiting
        for the disk.
        """
        with Session(self._writing(durably=durably), expire_on_commit=False) as session, session.begin():
            if not (durably or self.is_sqlite):
                session.execute(text("SET LOCAL synchronous_commit TO OFF"))
            yield session

    def _writing(self, *, durably: bool) -> Engine:
        # On SQLite the write lock is taken at the start: a lock upgrade half-way could only fail.
        return (self.engine if durably else self._hasty).execution_options(immediate=True)

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()
        self._hasty.dispose()


def clock(session: Session) -> float:
    """Unix time by the one clock that all writers of the database share."""
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)


def _sqlite_engine(url: str, synchronous: str) -> Engine:
    database = make_url(url).database
    if database and database != ":memory:":
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - the DBAPI has no type
        connection.isolation_level = None  # BEGIN is ours: the driver's own comes too late and never IMMEDIATE
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")  # FULL: the live pointer must survive a power cut
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine
