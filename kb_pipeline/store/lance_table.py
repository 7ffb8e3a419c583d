"""The Lance tables of a KB and of its tenant's embedding cache (only importer of lancedb)."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from kb_pipeline.errors import DamagedStore
from kb_pipeline.failpoints import failpoint
from kb_pipeline.store.compaction import REWRITTEN_SHARE, DataFile, pieces_to_rewrite, rows_a_piece
from kb_pipeline.store.paths import KbPaths, move_to_quarantine

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")
"""A frozen dataclass whose fields are columns of a table."""
logger = logging.getLogger(__name__)

PAGES = "pages"
"""Fetch state of every key."""
DOCUMENTS = "documents"
"""What cleaning made of every page with bytes."""
CHUNKS = "chunks"
"""The spans of every document."""

INDEX_PREFIX = "index_"
"""Tables that are searched begin with it; their full-text and vector indexes outlive the rewriting of their files."""
_KEYS = {PAGES: "page_id", DOCUMENTS: "document_id", CHUNKS: "chunk_id", "index": "chunk_id"}
"""What identifies a row, by the role that a table's name begins with."""

_ID_BATCH = 2000
"""Ids in one `IN (...)` filter."""
_MAX_INDEX_PARTS = 8
"""New rows get an index part of their own, at a cost of what is new. Every eighth time all parts become one: a search
asks each part (0.4 ms each of 12,000 rows). Text indexes are a tenth of a table, so old copies that are still kept
weigh a tenth; merging costs 20 s a million rows, an eighth of it a refresh."""
_NEWEST_MANIFEST = 2**64 - 1
"""Manifests are named by it minus their version, so that the newest is listed first."""
_DROPPED = ".dropped-"
"""Before the name of a table that is being removed."""
_COMPACTION_BATCH_ROWS = 1024
"""Rows in memory at a time while files are rewritten."""


def sql_in(column: str, values: Iterable[str]) -> str:
    """The one builder of filters from values: `column IN ('..', ..)` with every quote doubled."""
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})"


class _StubModule(ModuleType):
    """Stands for a module of classes that are imported and never used."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__module__": self.__name__})


def _import_lancedb() -> Any:  # noqa: ANN401 - a module
    """Import LanceDB in two fifths of its time: without its REST catalogue, nor the checks of its own classes.

    The catalogue's client is 700 generated modules. The checks read bytecode, to see that a method said to override
    another does; with Python 3.12 LanceDB does without them.
    """
    with _IMPORTING:
        if "lancedb" in sys.modules:
            return sys.modules["lancedb"]
        for name in ("lance_namespace_urllib3_client", "lance_namespace_urllib3_client.models", "lancedb.namespace"):
            sys.modules.setdefault(name, _StubModule(name))
        checks, unchecked = sys.modules.pop("overrides", None), ModuleType("overrides")
        vars(unchecked).update(override=lambda method: method, EnforceOverrides=object)
        sys.modules["overrides"] = unchecked
        try:
            import lancedb
        finally:
            del sys.modules["overrides"]
            sys.modules |= {"overrides": checks} if checks else {}
        return lancedb


_IMPORTING = threading.Lock()


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
        try:
            yield
        except RuntimeError as error:
            if "LanceError(IO)" in str(error):  # a merge or a delete reads before it writes
                raise DamagedStore(str(self.path), str(error)) from error
            raise
        failpoint(f"{self._role}.{action}.after")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Around everything that reads rows; raises DamagedStore."""
        try:
            yield
        except (OSError, RuntimeError) as error:  # what Lance raises for a file that is cut off
            raise DamagedStore(str(self.path), str(error)) from error

    def close(self) -> None:
        """Free what the handle holds; it cannot be used afterwards."""
        self._table._table.close()

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

    def read_columns(self, columns: Sequence[str], where: str | None = None, *, row_ids: bool = False) -> pl.DataFrame:
        """A few small columns of every row, for computing differences."""
        import polars as pl

        query = self._table.search().select(list(columns)).with_row_id(row_ids)
        with self._reading():
            frame = pl.from_arrow((query.where(where) if where else query).to_arrow())
        return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()

    def require_unique(self, frame: pl.DataFrame, key: str) -> pl.DataFrame:
        """The rows read, if no key occurs twice among them; raises DamagedStore.

        A writer that was stopped in the middle of a commit, lost its lease and woke up may have added what its heir
        had added already: LanceDB lets both commits through.
        """
        if doubled := frame.height - frame[key].n_unique():
            raise DamagedStore(str(self.path), f"{doubled} rows have a {key} that another row has")
        return frame

    def head(self, columns: Sequence[str], limit: int, where: str | None = None) -> pa.Table:
        """Return at most `limit` rows."""
        query = self._table.search().select(list(columns)).limit(limit)
        with self._reading():
            return (query.where(where) if where else query).to_arrow()

    def rows(self, row_type: type[Row], where: str | None = None, limit: int | None = None) -> list[Row]:
        """Read whole rows, each as the given dataclass, whose fields name the columns.

        A column that the table does not have, as in a version of an earlier release, is None.
        """
        names = [field.name for field in fields(row_type)]
        query = self._table.search().select([name for name in names if name in self.schema.names])
        query = query.limit(limit) if limit is not None else query
        with self._reading():
            found = (query.where(where) if where else query).to_arrow().to_pylist()
        return [row_type(**dict.fromkeys(names) | row) for row in found]

    def stream_rows(self, row_type: type[Row], where: str | None = None) -> Iterator[Row]:
        """Yield every row as the given dataclass, in bounded batches; see `rows`."""
        names = [field.name for field in fields(row_type)]
        for batch in self.stream([name for name in names if name in self.schema.names], where):
            yield from (row_type(**dict.fromkeys(names) | row) for row in batch.to_pylist())

    def stream(
        self, columns: Sequence[str], where: str | None = None, batch_rows: int = 1024
    ) -> Iterator[pa.RecordBatch]:
        """Every row in bounded batches."""
        query = self._table.search().select(list(columns))
        with self._reading():
            yield from (query.where(where) if where else query).to_batches(batch_rows)

    def take(self, row_ids: Sequence[int], columns: Sequence[str], batch_rows: int = 512) -> Iterator[pa.Table]:
        """The rows of those distinct ids, in that order, in bounded tables."""
        import pyarrow as pa

        for start in range(0, len(row_ids), batch_rows):
            ids = list(row_ids[start : start + batch_rows])
            # LanceDB gives them back in its own order, not in ours.
            with self._reading():
                rows = self._table.take_row_ids(ids).with_row_id().select(list(columns)).to_arrow()
            place = {row_id: n for n, row_id in enumerate(rows["_rowid"].to_pylist())}
            yield rows.take(pa.array([place[row_id] for row_id in ids])).drop_columns("_rowid")

    def append(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Add rows in one commit, streamed."""
        import pyarrow as pa

        with self._commit("append"):
            self._table.add(pa.RecordBatchReader.from_batches(self.schema, batches))

    def append_many(self, batches: Iterable[pa.RecordBatch], rows: int) -> None:
        """Add so many rows in one commit, streamed, in files small enough for one of them to be rewritten alone."""
        import lance
        import pyarrow as pa

        reader = pa.RecordBatchReader.from_batches(self.schema, batches)
        with self._commit("append"):
            # LanceDB has no say in how many rows a file holds.
            lance.write_dataset(reader, str(self.path), mode="append", max_rows_per_file=rows_a_piece(rows))
            self._table.checkout_latest()

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

    def clear(self) -> None:
        """Leave no row at the head; versions that are kept stay as they are."""
        import lance

        with self._commit("clear"):
            lance.write_dataset(self.schema.empty_table(), str(self.path), mode="overwrite")
            self._table.checkout_latest()

    def set_where(self, column: str, among: Sequence[str], values: dict[str, str | None]) -> None:
        """Give columns of the rows whose `column` is among the values another content."""
        for start in range(0, len(among), _ID_BATCH):
            with self._commit("set"):
                self._table.update(where=sql_in(column, among[start : start + _ID_BATCH]), values=values)

    def purge_rows(self, column: str, values: Sequence[str]) -> int:
        """Remove rows for good, from the files beneath as well and without leaving older versions; returns how many."""
        before = self.count()
        self.delete(column, values)
        self.rewrite_deleted()
        self.cleanup(timedelta(0))
        return before - self.count()

    def rewrite_deleted(self) -> None:
        """Write every file that still holds deleted rows anew without them."""
        from lance.optimize import Compaction, CompactionOptions

        dataset = self._dataset()
        pieces = {fragment.fragment_id: fragment.metadata.deletion_file for fragment in dataset.get_fragments()}
        options: CompactionOptions = {
            "excluded_fragment_ids": [number for number, deleted in pieces.items() if deleted is None],
            "materialize_deletions_threshold": 0.0,
            "batch_size": _COMPACTION_BATCH_ROWS,
        }
        if any(deleted is not None for deleted in pieces.values()):
            with self._commit("rewrite"):
                Compaction.execute(dataset, options)
        self._table.checkout_latest()

    def rows_beneath(self) -> int:
        """Rows that were deleted and still lie in the files of what this handle sees."""
        import lance

        fragments = lance.dataset(str(self.path), version=self.version).get_fragments()
        return sum(fragment.num_deletions for fragment in fragments)

    def untagged_versions(self) -> int:
        """Versions on disk that are neither the head nor tagged."""
        dataset = self._dataset()
        return len({each["version"] for each in dataset.versions()} - {dataset.version} - set(self.tags().values()))

    def is_whole(self) -> bool:
        """Whether every column of every row can be read, and no key occurs twice."""
        key = _KEYS.get(self._role)
        try:
            for batch in self.stream(self.schema.names):
                batch.validate(full=True)
            if key is not None:
                self.require_unique(self.read_columns([key]), key)
        except (OSError, RuntimeError, ValueError, DamagedStore):
            return False
        return True

    def optimize(self, share: float = REWRITTEN_SHARE) -> None:
        """Bring indexes up to the last row, and rewrite the few files that waste the most.

        Writes nothing when nothing is worth it. Someone else's commit to the same rows wins: what they rewrote needs
        it no more, and the next refresh comes here again.

        Args:
            share: of the table that may be rewritten at once to be rid of deleted rows.
        """
        try:
            self._update_indexes()
            self._rewrite_files(share)
        except (OSError, RuntimeError, ValueError) as error:
            if not _is_conflict(error):
                raise
            logger.info("%s: another writer was faster: %s", self.path, error)
        self._table.checkout_latest()

    def _update_indexes(self) -> None:
        """Give every index a part for its new rows; where there are many parts, make them one."""
        dataset = self._dataset()
        for index in dataset.describe_indices():
            covered = {fragment for part in index.segments for fragment in part.fragment_ids}
            if all(fragment.fragment_id in covered for fragment in dataset.get_fragments()):
                continue
            merged = len(index.segments) if len(index.segments) >= _MAX_INDEX_PARTS else 0
            with self._commit("index"):
                self._dataset().optimize.optimize_indices(index_names=[index.name], num_indices_to_merge=merged)

    def _rewrite_files(self, share: float) -> None:
        """Make small neighbours one, and the files with the most deleted rows free of them."""
        from lance.optimize import Compaction, CompactionOptions

        dataset = self._dataset()
        pieces = [_piece(fragment.metadata) for fragment in dataset.get_fragments()]
        chosen, rows_per_piece = pieces_to_rewrite(pieces, share)
        if not chosen:
            return
        options: CompactionOptions = {
            "excluded_fragment_ids": [piece.number for piece in pieces if piece.number not in chosen],
            "target_rows_per_fragment": rows_per_piece,
            "materialize_deletions_threshold": 0.0,
            "batch_size": _COMPACTION_BATCH_ROWS,
        }
        # Lance merges no files that different index parts cover: they wait until the parts are one.
        if Compaction.plan(dataset, options).num_tasks():
            with self._commit("optimize"):
                Compaction.execute(dataset, options)

    def _dataset(self) -> Any:  # noqa: ANN401 - lance's own types say little
        """The head through Lance itself, which can be told what to rewrite and what not."""
        import lance

        return lance.dataset(str(self.path))

    def cleanup(self, older_than: timedelta, *, unfinished: bool = False) -> int:
        """Remove untagged versions older than that; returns the bytes freed.

        `unfinished` removes files of commits that never came about too, whatever their age: only where nobody else
        can be writing.

        Goes through Lance itself: LanceDB's optimize() raises as soon as a tagged version is old enough.
        """
        with self._commit("cleanup"):
            stats = self._dataset().cleanup_old_versions(
                older_than, error_if_tagged_old_versions=False, delete_unverified=unfinished
            )
        return int(stats.bytes_removed)

    def files(self) -> list[str]:
        """Everything that what this handle sees consists of, as paths below the table's folder; raises DamagedStore.

        Its files never change; with these alone the table opens as it is now, at this version.
        """
        import lance

        try:
            dataset = lance.dataset(str(self.path), version=self.version)
            fragments, indexes = dataset.get_fragments(), dataset.describe_indices()
        except (OSError, RuntimeError, ValueError) as error:
            raise DamagedStore(str(self.path), str(error)) from error
        names = [f"data/{file.path}" for fragment in fragments for file in fragment.metadata.files]
        for fragment in fragments:
            if (deleted := fragment.metadata.deletion_file) is not None:
                names.append(deleted.path(fragment.fragment_id))
        folders = [f"_indices/{part.uuid}" for index in indexes for part in index.segments]
        patterns = [*(f"{folder}/**/*" for folder in folders), f"_transactions/{self.version - 1}-*.txn"]
        found = (path for pattern in patterns for path in sorted(self.path.glob(pattern)) if path.is_file())
        names += [str(path.relative_to(self.path)) for path in found]
        if lacking := [folder for folder in folders if not (self.path / folder).is_dir()]:
            raise DamagedStore(str(self.path), f"{lacking[0]} is missing")
        return [*names, f"_versions/{_NEWEST_MANIFEST - self.version:020}.manifest"]

    def tags(self) -> dict[str, int]:
        """The name of every tag and the version that it keeps."""
        return {name: int(tag["version"]) for name, tag in self._table.tags.list().items()}

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

    def drop_indexes(self) -> None:
        """Remove every index."""
        for index in self._table.list_indices():
            with self._commit("drop_index"):
                self._table.drop_index(index.name)

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
    ) -> pa.Table:
        """Return the `limit` rows nearest to the vector by cosine, with `_distance`."""
        query = self._table.search(vector, vector_column_name=column).distance_type("cosine")
        query = query.nprobes(20).refine_factor(5).select([*columns, "_distance"]).limit(limit)
        with self._reading():
            return (query.where(where, prefilter=True) if where else query).to_arrow()

    def matching(
        self, text: str, boosts: dict[str, float], limit: int, columns: Sequence[str], where: str | None
    ) -> pa.Table:
        """Return the `limit` rows that match the words best (BM25 over the given columns), with `_score`."""
        from lancedb.query import FullTextOperator, MultiMatchQuery

        words = MultiMatchQuery(text, list(boosts), boosts=list(boosts.values()), operator=FullTextOperator.OR)
        query = self._table.search(words, query_type="fts").select([*columns, "_score"]).limit(limit)
        with self._reading():
            return (query.where(where, prefilter=True) if where else query).to_arrow()


def _piece(fragment: Any) -> DataFile:  # noqa: ANN401 - lance's own types say little
    stored = sum(file.file_size_bytes or 0 for file in fragment.files)
    deleted = fragment.deletion_file.num_deleted_rows if fragment.deletion_file else 0
    live = stored * (fragment.physical_rows - deleted) // max(1, fragment.physical_rows)
    return DataFile(fragment.id, fragment.physical_rows - deleted, stored, live)


def _is_conflict(error: Exception) -> bool:
    """Whether a commit lost against another one; Lance has no exception of its own for it."""
    return "conflict" in str(error).lower()


class LanceDatabase:
    """A LanceDB database: the tables of one KB, or of one tenant's embedding cache."""

    def __init__(self, path: Path, may_write: Callable[[], None] = _anyone_may_write) -> None:
        lancedb = _import_lancedb()
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
            self._db.create_table(name, schema=schema, exist_ok=True, storage_options=_creation_options(name))
        table = self.open(name)
        if lacking := [field for field in schema if field.name not in table.schema.names]:
            table.add_columns(lacking)
        return table

    def repair(self, name: str, good: int | None, quarantine: Path) -> str | None:
        """Make the head of a table readable; says what was done, None when nothing was wrong.

        Args:
            name: the table.
            good: the version to go back to when the head's data is damaged; without one the table is emptied.
            quarantine: where damaged files are moved.
        """
        self._may_write()
        moved = self._set_manifests_aside(name, quarantine)
        if not self.exists(name):
            return f"table {name}: no version can be opened; it is made anew"
        table = self.open(name)
        if table.is_whole():
            return f"table {name}: {moved} damaged commits set aside" if moved else None
        if good is not None and self._is_whole_at(name, good):
            table.restore(good)
            return f"table {name}: data cannot be read or occurs twice; went back to the last version published"
        table.clear()
        return f"table {name}: data cannot be read or occurs twice, and no version published is whole; it is made anew"

    def _set_manifests_aside(self, name: str, quarantine: Path) -> int:
        """Until the table opens: one damaged newest manifest hides every older version."""
        moved = 0
        while True:
            try:
                self.open(name)
            except DamagedStore:
                manifests = (self.path / f"{name}.lance" / "_versions").glob("*.manifest")
                newest = min(manifests, key=lambda path: path.name, default=None)  # see _NEWEST_MANIFEST
                move_to_quarantine(newest or self.path / f"{name}.lance", quarantine)
                moved += 1
                if newest is None:
                    return moved
            else:
                return moved

    def _is_whole_at(self, name: str, version: int) -> bool:
        try:
            return self.open(name, version).is_whole()
        except DamagedStore:
            return False

    def exists(self, name: str) -> bool:
        """Whether there is such a table."""
        return (self.path / f"{name}.lance").exists()

    def names(self, prefix: str) -> list[str]:
        """The tables whose name begins so."""
        return sorted(path.stem for path in self.path.glob(f"{prefix}*.lance"))

    def age_s(self, name: str) -> float:
        """Seconds since the table's newest commit."""
        commits = (self.path / f"{name}.lance" / "_versions").glob("*")
        return time.time() - max((path.stat().st_mtime for path in commits), default=0.0)

    def drop(self, name: str) -> None:
        """Remove a table with all its versions; killed half-way it is gone all the same."""
        self._may_write()
        failpoint(f"{name.partition('_')[0]}.drop.before")
        gone = self.path / f"{_DROPPED}{name}"
        shutil.rmtree(gone, ignore_errors=True)
        (self.path / f"{name}.lance").replace(gone)
        for rest in self.path.glob(f"{_DROPPED}*"):
            shutil.rmtree(rest, ignore_errors=True)
        failpoint(f"{name.partition('_')[0]}.drop.after")


def _creation_options(name: str) -> dict[str, str] | None:
    """An index then names rows by ids that stay when their files are rewritten, so it needs no rewriting itself.

    Only tables that are searched have indexes; in the others rows are updated in place, which such ids make dearer.
    """
    return {"new_table_enable_stable_row_ids": "true"} if name.startswith(INDEX_PREFIX) else None


class KbStore:
    """Everything stored of one KB, opened as it is needed."""

    def __init__(self, paths: KbPaths, may_write: Callable[[], None] = _anyone_may_write) -> None:
        self.paths, self.key, self._may_write = paths, paths.key, may_write
        self._folder: LanceDatabase | None = None
        self._vectors: LanceDatabase | None = None

    def has_table(self, name: str) -> bool:
        """Whether the KB has that table; answered without loading LanceDB."""
        return (self.paths.lance / f"{name}.lance").exists()

    @property
    def tables(self) -> LanceDatabase:
        """The KB's own tables."""
        if self._folder is None:
            self._folder = LanceDatabase(self.paths.lance, self._may_write)
        return self._folder

    @property
    def vectors(self) -> LanceDatabase:
        """The tenant's embedding cache, one table a model."""
        if self._vectors is None:
            self._vectors = LanceDatabase(self.paths.vectors, self._may_write)
        return self._vectors
