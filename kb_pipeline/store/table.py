"""One Lance table of a KB or of a tenant's embedding cache: its rows read and written."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from kb_pipeline.errors import DamagedStore
from kb_pipeline.store.compaction import REWRITTEN_SHARE, rows_per_file
from kb_pipeline.store.stage_tables import STAGE_TABLES
from kb_pipeline.store.table_handle import TableHandle
from kb_pipeline.store.table_indexes import TableIndexes
from kb_pipeline.store.table_maintenance import TableMaintenance
from kb_pipeline.store.table_tags import TableTags

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from _typeshed import DataclassInstance

logger = logging.getLogger(__name__)
Row = TypeVar("Row", bound="DataclassInstance")
"""A frozen dataclass whose fields are columns of a table."""
_ID_BATCH = 2000
"""Ids in one `IN (...)` filter."""


def sql_in(column: str, values: Iterable[str]) -> str:
    """Return the filter `column IN ('..', ..)` with every quote doubled: the one builder of filters from values."""
    return f"{column} IN ({', '.join(map(_sql_text, values))})"


def sql_row_ids(rows: Iterable[int]) -> str:
    """Return the filter of the rows of those ids."""
    return f"_rowid IN ({', '.join(str(int(each)) for each in rows)})"


def _sql_text(value: str | None) -> str:
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


class LanceTable:
    """A table at its head, or at a pinned version for reading.

    A handle at a pinned version may be shared between threads. `indexes`, `maintenance` and `tags` are what else can
    be done with the table than reading and writing rows.
    """

    def __init__(self, handle: TableHandle) -> None:
        self._handle, self.path = handle, handle.path
        self.indexes = TableIndexes(handle)
        self.maintenance = TableMaintenance(handle)
        self.tags = TableTags(handle)

    def close(self) -> None:
        """Free what the handle holds; the table cannot be used through it afterwards."""
        self._handle.close()

    @property
    def version(self) -> int:
        """Lance's own version number of what this handle sees."""
        return self._handle.version

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema."""
        return self._handle.table.schema

    @property
    def key(self) -> str:
        """The column that identifies a row."""
        return STAGE_TABLES[self._handle.role].key

    def count(self, where: str | None = None) -> int:
        """Count the rows that satisfy the filter."""
        return int(self._handle.table.count_rows(where))

    def read_columns(self, columns: Sequence[str], where: str | None = None, *, row_ids: bool = False) -> pl.DataFrame:
        """Read a few small columns of every row, for computing differences; raises DamagedStore."""
        import polars as pl

        with self._handle.reading():
            frame = pl.from_arrow(self._handle.table.to_table(list(columns), filter=where, with_row_id=row_ids))
        return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()

    def require_unique(self, frame: pl.DataFrame, column: str | None = None) -> pl.DataFrame:
        """Return the rows read, if no value of a column (by default the key) is there twice; raises DamagedStore.

        A writer that was stopped in the middle of a commit, lost its lease and woke up may have added what its heir
        had added already: Lance lets both commits through.
        """
        column = column or self.key
        if doubled := frame.height - frame[column].n_unique():
            raise DamagedStore(str(self.path), f"{doubled} rows have a {column} that another row has")
        return frame

    def head(self, columns: Sequence[str], limit: int, where: str | None = None) -> pa.Table:
        """Read at most `limit` rows; raises DamagedStore."""
        with self._handle.reading():
            return self._handle.table.to_table(list(columns), filter=where, limit=limit)

    def rows(self, row_type: type[Row], where: str | None = None, limit: int | None = None) -> list[Row]:
        """Read whole rows, each as the given dataclass, whose fields name the columns; raises DamagedStore.

        A column that the table does not have, as in a version of an earlier release, is None.
        """
        names = [field.name for field in fields(row_type)]
        there = [name for name in names if name in self.schema.names]
        with self._handle.reading():
            found = self._handle.table.to_table(there, filter=where, limit=limit).to_pylist()
        return [row_type(**dict.fromkeys(names) | row) for row in found]

    def stream_rows(self, row_type: type[Row], where: str | None = None) -> Iterator[Row]:
        """Yield every row as the given dataclass, in bounded batches; see `rows`."""
        names = [field.name for field in fields(row_type)]
        for batch in self.stream([name for name in names if name in self.schema.names], where):
            yield from (row_type(**dict.fromkeys(names) | row) for row in batch.to_pylist())

    def stream(
        self, columns: Sequence[str], where: str | None = None, batch_rows: int = 1024
    ) -> Iterator[pa.RecordBatch]:
        """Yield every row in bounded batches; raises DamagedStore."""
        with self._handle.reading():
            yield from self._handle.table.to_batches(columns=list(columns), filter=where, batch_size=batch_rows)

    def take(self, row_ids: Sequence[int], columns: Sequence[str], batch_rows: int = 512) -> Iterator[pa.Table]:
        """Yield the rows of those distinct ids, in that order, in bounded tables; raises DamagedStore."""
        for start in range(0, len(row_ids), batch_rows):
            ids = list(row_ids[start : start + batch_rows])
            with self._handle.reading():
                rows = self._handle.table._take_rows(ids, list(columns))
            if rows.num_rows != len(ids):  # Lance leaves those that are not there any more out without a word
                raise DamagedStore(str(self.path), f"{len(ids) - rows.num_rows} rows that were there are gone")
            yield rows

    def is_whole(self) -> bool:
        """Whether every column of every row can be read, and no key occurs twice."""
        try:
            for batch in self.stream(self.schema.names):
                batch.validate(full=True)
            if self._handle.role in STAGE_TABLES:
                self.require_unique(self.read_columns([self.key]))
        except (OSError, RuntimeError, ValueError, DamagedStore):
            return False
        return True

    def append(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Add rows in one commit, streamed."""
        self._write(batches)

    def append_many(self, batches: Iterable[pa.RecordBatch], rows: int) -> None:
        """Add so many rows in one commit, streamed, in files small enough for one of them to be rewritten alone."""
        self._write(batches, max_rows_per_file=rows_per_file(rows))

    def _write(self, batches: Iterable[pa.RecordBatch], **limits: Any) -> None:  # noqa: ANN401 - of `write_dataset`
        import lance
        import pyarrow as pa

        reader = pa.RecordBatchReader.from_batches(self.schema, batches)
        with self._handle.commit("append"):
            lance.write_dataset(reader, self._handle.table, mode="append", **limits)
            self._handle.table.checkout_latest()

    def upsert(self, rows: pa.Table) -> None:
        """Replace rows of the same key and insert the others, in one commit; a part of the columns may be given."""
        builder = self._handle.table.merge_insert(self.key).when_matched_update_all()
        if set(rows.column_names) == set(self.schema.names):
            builder = builder.when_not_matched_insert_all()
        with self._handle.commit("upsert"):
            builder.execute(rows)

    def replace_group(self, rows: pa.Table, group: str, values: Sequence[str]) -> None:
        """Make `rows` all the rows whose column `group` is among `values`, in one commit."""
        builder = self._handle.table.merge_insert(self.key).when_matched_update_all().when_not_matched_insert_all()
        builder = builder.when_not_matched_by_source_delete(sql_in(group, values))
        with self._handle.commit("replace"):
            builder.execute(rows)

    def set_where(self, column: str, among: Sequence[str], values: Mapping[str, str | None]) -> None:
        """Give columns of the rows whose `column` is among the values another content."""
        literals = {name: _sql_text(value) for name, value in values.items()}
        for start in range(0, len(among), _ID_BATCH):
            where = sql_in(column, among[start : start + _ID_BATCH])
            with self._handle.commit("set"):
                self._handle.table.update(literals, where=where)

    def add_columns(self, columns: Sequence[pa.Field]) -> None:
        """Add nullable columns, null in every row."""
        with self._handle.commit("add_columns"):
            self._handle.table.add_columns(list(columns))
            self._handle.table.checkout_latest()

    def delete(self, column: str, values: Sequence[str]) -> None:
        """Remove the rows whose column is among the values."""
        for start in range(0, len(values), _ID_BATCH):
            with self._handle.commit("delete"):
                self._handle.table.delete(sql_in(column, values[start : start + _ID_BATCH]))

    def purge_rows(self, column: str, values: Sequence[str]) -> int:
        """Remove rows for good, from the files beneath as well and without leaving older versions; returns how many."""
        before = self.count()
        self.delete(column, values)
        self.maintenance.rewrite_deleted()
        self.maintenance.cleanup(timedelta(0))
        return before - self.count()

    def restore(self, version: int) -> None:
        """Make the head what it was at that version; what came since is left to `maintenance.cleanup`."""
        with self._handle.commit("restore"):
            self._handle.table.checkout_version(version).restore()
            self._handle.table.checkout_latest()

    def clear(self) -> None:
        """Leave no row at the head; versions that are kept stay as they are."""
        import lance

        with self._handle.commit("clear"):
            lance.write_dataset(self.schema.empty_table(), str(self.path), mode="overwrite")
            self._handle.table.checkout_latest()

    def optimize(self, share: float = REWRITTEN_SHARE) -> None:
        """Bring indexes up to the last row, and rewrite the few files that waste the most.

        Writes nothing when nothing is worth it. Another writer's commit to the same rows wins: what they rewrote needs
        it no more, and the next refresh comes here again.

        Args:
            share: of the table that may be rewritten at once to be rid of deleted rows.
        """
        try:
            self.indexes.update()
            self.maintenance.compact(share)
        except (OSError, RuntimeError, ValueError) as error:
            if not _is_conflict(error):
                raise
            logger.info("%s: another writer was faster: %s", self.path, error)
        self._handle.table.checkout_latest()


def _is_conflict(error: Exception) -> bool:
    """Whether a commit lost against another one; Lance has no exception of its own for it."""
    return "conflict" in str(error).lower()
