"""Opens the control plane's database: SQLite by default, Postgres when told so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from kb_pipeline.control.schema import Base

_SCHEMA_LOCK = 0x6B625F70  # "kb_p": any constant all our processes agree on
_BUSY_TIMEOUT_MS = 30_000


class Database:
    """A pool of connections to the control plane, its tables made on first use."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(url, "FULL") if self.is_sqlite else create_engine(url, pool_pre_ping=True)
        self._hasty = _sqlite_engine(url, "NORMAL") if self.is_sqlite else self.engine
        self._create_tables()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; nothing is committed."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self, *, durably: bool = True) -> Iterator[Session]:
        """A transaction: committed at the end, rolled back by any exception.

        What is not written durably may be lost by a power cut, with the transactions before it whole; it saves waiting
        for the disk.
        """
        # On SQLite the write lock is taken at the start: a lock upgrade half-way could only fail.
        engine = (self.engine if durably else self._hasty).execution_options(immediate=True)
        with Session(engine, expire_on_commit=False) as session, session.begin():
            if not (durably or self.is_sqlite):
                session.execute(text("SET LOCAL synchronous_commit TO OFF"))
            yield session

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()
        self._hasty.dispose()

    def _create_tables(self) -> None:
        with self.engine.connect() as connection:
            present = set(inspect(connection).get_table_names())
        if set(Base.metadata.tables) <= present:
            return
        with self.engine.execution_options(immediate=True).begin() as connection:
            if not self.is_sqlite:  # two processes may start at once
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
            Base.metadata.create_all(connection)


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
