"""The control plane as files: one a table, one JSON object a row, the same from SQLite and from Postgres."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, Engine, MetaData, Table, select

from kb_pipeline.control.db.models import Base
from kb_pipeline.control.db.schema_revision import VERSION_TABLE, known_revisions, upgrade
from kb_pipeline.errors import DamagedBackup, SchemaTooNew

_ROWS = 500
"""Rows in memory at a time."""


def dump_tables(connection: Connection, folder: Path) -> dict[str, int]:
    """Write every table as the connection's transaction sees it; returns the rows of each."""
    folder.mkdir(parents=True)
    return {table.name: _dump(connection, table, folder / f"{table.name}.jsonl") for table in _tables()}


def _tables() -> list[Table]:
    return list(Base.metadata.sorted_tables)


def _dump(connection: Connection, table: Table, path: Path) -> int:
    rows = 0
    query = select(table).order_by(*table.primary_key)
    with path.open("w", encoding="utf-8") as file:
        for row in connection.execution_options(yield_per=_ROWS).execute(query).mappings():
            values = {name: _written(value) for name, value in row.items()}
            file.write(json.dumps(values, ensure_ascii=False) + "\n")
            rows += 1
    return rows


def _written(value: Any) -> Any:  # noqa: ANN401 - whatever a column holds
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of one file; raise DamagedBackup."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError as error:
                raise DamagedBackup(path, f"line is not JSON: {error}") from None


def load_tables(
    engine: Engine, folder: Path, revision: str, settle: Callable[[Connection], None] = lambda _: None
) -> dict[str, int]:
    """Fill an empty control plane, in one transaction, from the files of a release that had that schema revision.

    What has come since, the migrations add afterwards; `settle` changes what must not come back as it was.

    Raises:
        SchemaTooNew: a newer release wrote the files.
    """
    known = known_revisions()
    if revision not in known:
        raise SchemaTooNew(revision, known[-1])
    upgrade(engine, revision)
    metadata = MetaData()
    metadata.reflect(engine, only=lambda name, _: (folder / f"{name}.jsonl").exists() and name != VERSION_TABLE)
    for column in (column for table in metadata.sorted_tables for column in table.columns):
        if isinstance(column.type, JSON):
            column.type.none_as_null = True  # as the models have it where it matters
    with engine.execution_options(immediate=True).begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())  # what migrations put into new tables, or a load that was cut off
        rows = {
            table.name: _load(connection, table, folder / f"{table.name}.jsonl") for table in metadata.sorted_tables
        }
        settle(connection)
    upgrade(engine)
    return rows


def _load(connection: Connection, table: Table, path: Path) -> int:
    rows = 0
    written = read_rows(path)
    while some := list(islice(written, _ROWS)):
        connection.execute(table.insert(), [_read(table, row, connection.dialect.name) for row in some])
        rows += len(some)
    return rows


def _read(table: Table, row: Mapping[str, Any], dialect: str) -> dict[str, Any]:
    return {name: _value(table.columns[name].type.python_type, value, dialect) for name, value in row.items()}


def _value(kind: type, value: Any, dialect: str) -> Any:  # noqa: ANN401 - whatever a column holds
    if value is None:
        return None
    if kind is datetime:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=None) if dialect == "sqlite" else moment
    return base64.b64decode(value) if kind is bytes else value
