"""The Lance tables of a KB and of its tenant's embedding cache (only importer of lancedb)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb_pipeline.errors import DamagedStore
from kb_pipeline.failpoints import failpoint
from kb_pipeline.storage import KbPaths

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

PAGES = "pages"
"""Fetch state of every key."""
DOCUMENTS = "documents"
"""What cleaning made of every page with bytes."""
CHUNKS = "chunks"
"""The spans of every document."""

_ID_BATCH = 2000
"""Ids in one `IN (...)` filter."""


def sql_in(column: str, values: Iterable[str]) -> str:
    """The one builder of filters from values: `column IN ('..', ..)` with every quote doubled."""
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})"


def _anyone_may_write() -> None:
    """Readers and tests hold no lease."""


class LanceTable:
    """One table at its head, or at a pinned version for reading."""

    def __init__(
        self,
        table: Any,  # noqa: ANN401 - lancedb has no type hints to rely on
        path: Path,
        may_write: Callable[[], None] = _anyone_may_write,
    ) -> None:
        self._table, self.path, self._may_write = table, path, may_write
        self._role = path.stem.partition("_")[0]

    @contextmanager
    def _commit(self, action: str) -> Iterator[None]:
        """Around everything that changes the table: whoever lost the KB's lease is stopped before it does."""
        self._may_write()
        failpoint(f"{self._role}.{action}.before")
        yield
        failpoint(f"{self._role}.{action}.after")

    @property
    def version(self) -> int:
        """Lance's own version number of what this handle sees."""
        return int(self._table.version)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema."""
        return self._table.schema

    def count(self, where: str | None = None) -> int:
        """Rows that satisfy the filter."""
        return int(self._table.count_rows(where))

    def narrow(self, columns: Sequence[str], where: str | None = None, *, row_ids: bool = False) -> pl.DataFrame:
        """A few small columns of every row, for computing differences."""
        import polars as pl

        query = self._table.search().select(list(columns)).with_row_id(row_ids)
        frame = pl.from_arrow((query.where(where) if where else query).to_arrow())
        return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()

    def head(self, columns: Sequence[str], limit: int, where: str | None = None) -> list[dict[str, Any]]:
        """At most `limit` rows."""
        query = self._table.search().select(list(columns)).limit(limit)
        return list((query.where(where) if where else query).to_list())

    def stream(
        self, columns: Sequence[str], where: str | None = None, batch_rows: int = 1024
    ) -> Iterator[pa.RecordBatch]:
        """Every row in bounded batches."""
        query = self._table.search().select(list(columns))
        yield from (query.where(where) if where else query).to_batches(batch_rows)

    def take(self, row_ids: Sequence[int], columns: Sequence[str], batch_rows: int = 512) -> Iterator[pa.Table]:
        """The rows of those distinct ids, in that order, in bounded tables."""
        import pyarrow as pa

        for start in range(0, len(row_ids), batch_rows):
            ids = list(row_ids[start : start + batch_rows])
            # LanceDB gives them back in its own order, not in ours.
            rows = self._table.take_row_ids(ids).with_row_id().select(list(columns)).to_arrow()
            place = {row_id: n for n, row_id in enumerate(rows["_rowid"].to_pylist())}
            yield rows.take(pa.array([place[row_id] for row_id in ids])).drop_columns("_rowid")

    def append(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Add rows in one commit, streamed."""
        import pyarrow as pa

        with self._commit("append"):
            self._table.add(pa.RecordBatchReader.from_batches(self.schema, batches))

    def upsert(self, key: str, rows: pa.Table) -> None:
        """Replace rows of the same key and insert the others, in one commit; a part of the columns may be given."""
        builder = self._table.merge_insert(key).when_matched_update_all()
        if set(rows.column_names) == set(self.schema.names):
            builder = builder.when_not_matched_insert_all()
        with self._commit("upsert"):
            builder.execute(rows)

    def replace_group(self, key: str, rows: pa.Table, group: str, values: Sequence[str]) -> None:
        """In one commit: make `rows` all rows whose column `group` is among `values`."""
        builder = self._table.merge_insert(key).when_matched_update_all().when_not_matched_insert_all()
        builder = builder.when_not_matched_by_source_delete(sql_in(group, values))
        with self._commit("replace"):
            builder.execute(rows)

    def add_columns(self, fields: Sequence[pa.Field]) -> None:
        """Add nullable columns, null in every row."""
        with self._commit("add_columns"):
            self._table.add_columns(list(fields))

    def delete(self, column: str, values: Sequence[str]) -> None:
        """Remove the rows whose column is among the values."""
        for start in range(0, len(values), _ID_BATCH):
            with self._commit("delete"):
                self._table.delete(sql_in(column, values[start : start + _ID_BATCH]))

    def restore(self, version: int) -> None:
        """Make the head what it was at that version; what came since is left to `cleanup`."""
        with self._commit("restore"):
            self._table.restore(version)

    def optimize(self) -> None:
        """Merge small files and bring indexes up to the last row."""
        with self._commit("optimize"):
            self._table.optimize(cleanup_older_than=timedelta(days=3650))  # cleaning up is `cleanup`'s

    def cleanup(self, older_than: timedelta) -> int:
        """Remove untagged versions older than that; returns the bytes freed.

        Goes through Lance itself: LanceDB's optimize() raises as soon as a tagged version is old enough.
        """
        import lance

        with self._commit("cleanup"):
            stats = lance.dataset(str(self.path)).cleanup_old_versions(older_than, error_if_tagged_old_versions=False)
        return int(stats.bytes_removed)

    def tag(self, name: str, version: int) -> None:
        """Keep that version until the tag is removed; a tag of that name is moved."""
        tags = self._table.tags
        with self._commit("tag"):
            (tags.update if name in tags.list() else tags.create)(name, version)

    def untag(self, name: str) -> None:
        """Let cleanup take the version; no such tag is fine."""
        if name in self._table.tags.list():
            with self._commit("untag"):
                self._table.tags.delete(name)

    def index_names(self) -> set[str]:
        """Columns that have an index."""
        return {column for index in self._table.list_indices() for column in index.columns}

    def unindexed_rows(self) -> int:
        """The most rows that any index has not seen yet."""
        stats = (self._table.index_stats(index.name) for index in self._table.list_indices())
        return max((int(s.num_unindexed_rows) for s in stats if s is not None), default=0)

    def create_text_index(self, column: str) -> None:
        """Full-text index over any script: ICU word boundaries, case and accents folded, no stemming."""
        from lancedb.index import FTS

        config = FTS(base_tokenizer="icu", stem=False, remove_stop_words=False, ascii_folding=True)
        with self._commit("text_index"):
            self._table.create_index(column, config=config, replace=True)

    def create_vector_index(self, column: str, rows: int) -> None:
        """Scalar-quantised inverted file, the fastest build of those with full recall after refining."""
        from lancedb.index import IvfSq

        config = IvfSq(distance_type="cosine", num_partitions=max(1, min(4096, rows // 4096)))
        with self._commit("vector_index"):
            self._table.create_index(column, config=config, replace=True)

    def nearest(
        self,
        column: str,
        vector: Any,  # noqa: ANN401 - a float32 array
        limit: int,
        columns: Sequence[str],
        where: str | None,
    ) -> list[dict[str, Any]]:
        """The `limit` rows nearest to the vector by cosine, with `_distance`."""
        query = self._table.search(vector, vector_column_name=column).distance_type("cosine")
        query = query.nprobes(20).refine_factor(5).select([*columns, "_distance"]).limit(limit)
        return list((query.where(where, prefilter=True) if where else query).to_list())

    def matching(
        self, text: str, boosts: dict[str, float], limit: int, columns: Sequence[str], where: str | None
    ) -> list[dict[str, Any]]:
        """The `limit` rows that match the words best (BM25 over the given columns), with `_score`."""
        from lancedb.query import FullTextOperator, MultiMatchQuery

        words = MultiMatchQuery(text, list(boosts), boosts=list(boosts.values()), operator=FullTextOperator.OR)
        query = self._table.search(words, query_type="fts").select([*columns, "_score"]).limit(limit)
        return list((query.where(where, prefilter=True) if where else query).to_list())


class LanceFolder:
    """A LanceDB database: the tables of one KB, or of one tenant's embedding cache."""

    def __init__(self, path: Path, may_write: Callable[[], None] = _anyone_may_write) -> None:
        import lancedb

        self.path, self._may_write = path, may_write
        self._db = lancedb.connect(str(path))

    def open(self, name: str, version: int | None = None) -> LanceTable:
        """An existing table, at its head or pinned to a version; raises DamagedStore."""
        try:
            table = self._db.open_table(name)
            if version is not None:
                table.checkout(version)
        except (OSError, ValueError, RuntimeError) as error:
            raise DamagedStore(f"table {name} in {self.path}", str(error)) from error
        return LanceTable(table, self.path / f"{name}.lance", self._may_write)

    def open_or_create(self, name: str, schema: pa.Schema) -> LanceTable:
        """The head of a table, made empty if it does not exist; raises DamagedStore.

        A table of an earlier release gets the columns that it lacks, filled with nulls.
        """
        if not (self.path / f"{name}.lance").exists():
            self._may_write()
            self._db.create_table(name, schema=schema, exist_ok=True)
        table = self.open(name)
        if lacking := [field for field in schema if field.name not in table.schema.names]:
            table.add_columns(lacking)
        return table

    def exists(self, name: str) -> bool:
        """Whether there is such a table."""
        return (self.path / f"{name}.lance").exists()


class KbStore:
    """Everything stored of one KB, opened as it is needed."""

    def __init__(self, paths: KbPaths, may_write: Callable[[], None] = _anyone_may_write) -> None:
        self.paths, self.key, self._may_write = paths, paths.key, may_write
        self._folder: LanceFolder | None = None
        self._vectors: LanceFolder | None = None

    @property
    def tables(self) -> LanceFolder:
        """The KB's own tables."""
        if self._folder is None:
            self._folder = LanceFolder(self.paths.lance, self._may_write)
        return self._folder

    @property
    def vectors(self) -> LanceFolder:
        """The tenant's embedding cache, one table a model."""
        if self._vectors is None:
            self._vectors = LanceFolder(self.paths.vectors, self._may_write)
        return self._vectors
