"""Frees raw segments that no version of a KB needs any more, and rewrites those that are mostly unneeded."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from kb_pipeline.errors import DamagedStore
from kb_pipeline.failpoints import failpoint
from kb_pipeline.maintenance.garbage_collection import table_states
from kb_pipeline.store.compaction import DataFile, most_wasteful
from kb_pipeline.store.durable_files import atomic_write
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Manifest
from kb_pipeline.store.raw_segments import read_segments
from kb_pipeline.store.stage_tables import DOCUMENTS, PAGES

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_SEGMENT_ROWS = 64
_SEGMENT_BYTES = 8 * 1024 * 1024
"""A rewritten segment holds as much as one of the crawler's: to read one body is to read its segment."""
_READ_ROWS = 8
_UNFINISHED = ".tmp"
_KEPT_OLD = "outcome = 'document' AND reason IS NOT NULL"
"""Documents whose newest bytes could not be cleaned: `pages` names those, and not what the document was made from."""


def collect_raw_segments(
    store: KbStore, kept: Sequence[Manifest], grace: timedelta, may_write: Callable[[], None]
) -> int:
    """Delete the raw segments that neither the head nor a kept version needs; returns the bytes freed.

    Args:
        store: the KB.
        kept: the manifests of the versions that are kept.
        grace: younger segments stay, whatever names them.
        may_write: raises when this writer was replaced.
    """
    # Listed before the tables are read: a fetch writes `pages` first, so what is listed here is named there.
    newest = time.time() - grace.total_seconds()
    files = [path for path in _files(store.paths.raw) if path.stat().st_mtime <= newest]
    named = _named_segments(store, kept)
    garbage = [path for path in files if path.name not in named]
    if not garbage:
        return 0
    bodies = _kept_bodies(store, kept)
    freed = 0
    for path in garbage:
        if bodies and path.suffix != _UNFINISHED and _holds(path, bodies):
            continue
        may_write()
        freed += path.stat().st_size
        path.unlink()
    return freed


def compact_raw_segments(store: KbStore, kept: Sequence[Manifest]) -> int:
    """Write the rows that are still needed of the most wasteful segments anew; returns how many segments.

    The new segments are complete and on disk before `pages` names them, in one commit; a crash leaves at most segments
    that nothing names. The old ones go with the last version that names them.
    """
    import polars as pl

    if not store.tables.exists(PAGES):
        return 0
    pages = store.tables.open(PAGES)
    rows = pages.read_columns(["page_id", "segment", "position"], "segment IS NOT NULL")
    names = _wasteful_segments(store.paths.raw, Counter(rows["segment"].to_list()))
    if not names:
        return 0
    moving = rows.filter(pl.col("segment").is_in(names))
    moved = _rewrite(store.paths.raw, names, moving, _kept_bodies(store, kept))
    failpoint("raw.rewrite.before")
    pages.upsert(moved)
    failpoint("raw.rewrite.after")
    return len(names)


def _named_segments(store: KbStore, kept: Sequence[Manifest]) -> set[str]:
    named: set[str] = set()
    for pages in table_states(store, kept, "pages", PAGES):
        named.update(pages.read_columns(["segment"], "segment IS NOT NULL")["segment"].unique().to_list())
    return named


def _kept_bodies(store: KbStore, kept: Sequence[Manifest]) -> set[tuple[str, str]]:
    """Return key and hash of bytes that a document was made from though its page names newer ones."""
    bodies: set[tuple[str, str]] = set()
    for documents in table_states(store, kept, "documents", DOCUMENTS):
        bodies.update(documents.read_columns(["key", "raw_sha256"], _KEPT_OLD).rows())
    return bodies


def _holds(path: Path, bodies: Collection[tuple[str, str]]) -> bool:
    batches = read_segments(path.parent, [path.name], ["key", "sha256"], 1024)
    return any((row["key"], row["sha256"]) in bodies for _, batch in batches for row in batch.to_pylist())


def _files(raw: Path) -> list[Path]:
    return sorted(path for path in raw.glob("*") if path.suffix in (".parquet", _UNFINISHED)) if raw.is_dir() else []


def _wasteful_segments(raw: Path, live: Mapping[str, int]) -> list[str]:
    """Return the segments to rewrite now, by their number of rows with bytes and of rows still referenced."""
    # A segment that is not here yet is still in its fetch's journal.
    names = [path.name for path in _files(raw) if path.name in live]
    pieces = []
    for number, name in enumerate(names):
        stored, bodies = (raw / name).stat().st_size, max(1, _bodies(raw / name))
        pieces.append(DataFile(number, live[name], stored, stored * min(live[name], bodies) // bodies))
    return [names[number] for number in sorted(most_wasteful(pieces, _SEGMENT_BYTES))]


def _bodies(path: Path) -> int:
    """Count the rows with bytes, from the file's footer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise DamagedStore(str(path), str(error)) from error
    total = 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        columns = {group.column(n).path_in_schema: group.column(n).statistics for n in range(group.num_columns)}
        body = columns["body"]
        total += group.num_rows - (body.null_count if body is not None and body.has_null_count else 0)
    return total


@dataclass(slots=True)
class _Segments:
    """Rows written as new segments, each beside, synced and renamed."""

    raw: Path
    schema: pa.Schema
    prefix: str
    rows: list[pa.RecordBatch]
    written: int = 0
    stored: int = 0

    def add(self, row: pa.RecordBatch) -> tuple[str, int]:
        """Keep a row; returns the segment and position where it will lie."""
        if self.rows and (len(self.rows) == _SEGMENT_ROWS or self.stored >= _SEGMENT_BYTES):
            self.flush()
        place = f"{self.prefix}-{self.written:06}.parquet", len(self.rows)
        self.rows.append(row)
        self.stored += row.nbytes
        return place

    def flush(self) -> None:
        """Write what there is."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self.rows:
            return
        path = self.raw / f"{self.prefix}-{self.written:06}.parquet"
        with atomic_write(path, path.with_suffix(_UNFINISHED)) as file:
            pq.write_table(pa.Table.from_batches(self.rows, self.schema).combine_chunks(), file, compression="zstd")
        self.written, self.stored = self.written + 1, 0
        self.rows.clear()


def _rewrite(raw: Path, names: Sequence[str], moving: pl.DataFrame, bodies: Collection[tuple[str, str]]) -> pa.Table:
    """Copy the rows that are moving, and those of the kept bodies; returns page id, segment and position of each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.unify_schemas([pq.read_schema(raw / name) for name in names])
    segments = _Segments(raw, schema, f"rewritten-{time.time_ns():x}", [])
    # One row may stand for several pages; every page of it moves along.
    owners: dict[tuple[str, int], list[str]] = {}
    for page_id, name, position in moving.iter_rows():
        owners.setdefault((name, position), []).append(page_id)
    moved: list[tuple[str, str, int]] = []
    for name, position, row in _rows(raw, names, schema):
        ids = owners.pop((name, position), [])
        key, sha256 = row["key"][0].as_py(), row["sha256"][0].as_py()
        if ids or (key, sha256) in bodies:
            _check(raw / name, position, sha256, row["body"][0].as_py())
            place = segments.add(row)
            moved += [(page_id, *place) for page_id in ids]
    if owners:
        raise DamagedStore(str(raw), f"{len(owners)} rows that pages name are missing, first {min(owners)}")
    segments.flush()
    columns = [[page[n] for page in moved] for n in range(3)]
    return pa.table({"page_id": columns[0], "segment": columns[1], "position": pa.array(columns[2], pa.int64())})


def _rows(raw: Path, names: Sequence[str], schema: pa.Schema) -> Iterator[tuple[str, int, pa.RecordBatch]]:
    """Yield every row with its segment and position; columns of later releases are null in older segments."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in names:
        position = 0
        for _, batch in read_segments(raw, [name], pq.read_schema(raw / name).names, _READ_ROWS):
            present = dict(zip(batch.schema.names, batch.columns, strict=True))
            columns = [present.get(f.name, pa.nulls(batch.num_rows, f.type)).cast(f.type) for f in schema]
            whole = pa.RecordBatch.from_arrays(columns, schema=schema)
            for offset in range(batch.num_rows):
                # A copy: a slice would keep its whole batch in memory.
                yield name, position, whole.take(pa.array([offset]))
                position += 1


def _check(path: Path, position: int, sha256: str | None, body: bytes | None) -> None:
    """Raise DamagedStore for bytes that are not those of their hash: no damage goes into a segment that looks sound."""
    if body is None or hashlib.sha256(body).hexdigest() != sha256:
        raise DamagedStore(str(path), f"the bytes of row {position} are not those of its hash")
