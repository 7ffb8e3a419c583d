"""The raw segments of a KB: immutable Parquet files with the exact bytes of everything that was fetched."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb_pipeline.errors import DamagedStore
from kb_pipeline.failpoints import failpoint
from kb_pipeline.store.durable_files import atomic_write, fsync_path, move_to_quarantine
from kb_pipeline.store.paths import KbPaths

if TYPE_CHECKING:
    import pyarrow as pa

_REDACTED_ROWS = 8
"""Bodies in memory at a time while a segment is rewritten."""
_BODY_COLUMNS = ("key", "url", "content_type", "sha256", "body", "fetched_at")


@dataclass(frozen=True, slots=True)
class RawBody:
    """The bytes in one row of a segment, and how they came."""

    segment: str
    position: int
    key: str
    url: str
    content_type: str | None
    sha256: str
    body: bytes
    fetched_at: datetime


def commit_segments(journal: Path, raw: Path, prefix: str, wanted: Collection[str]) -> None:
    """Move the wanted segments of a finished fetch among the raw ones as `prefix-name`, and drop the others.

    Doing it again after a crash half-way moves what is left.
    """
    raw.mkdir(parents=True, exist_ok=True)
    for segment in journal.glob("*.parquet"):
        if (name := f"{prefix}-{segment.name}") in wanted:
            segment.replace(raw / name)
            failpoint("raw.adopt")
    fsync_path(raw)
    shutil.rmtree(journal, ignore_errors=True)
    failpoint("raw.adopted")


def read_segments(
    folder: Path, names: Iterable[str], columns: Sequence[str], batch_rows: int = 64
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Stream batches of the named raw segments, each with its segment's name; raises DamagedStore."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in names:
        try:
            with pq.ParquetFile(folder / name) as file:
                for batch in file.iter_batches(batch_size=batch_rows, columns=list(columns)):
                    yield name, batch
        except (OSError, pa.ArrowException) as error:
            raise DamagedStore(str(folder / name), str(error)) from error


def read_bodies(folder: Path, wanted: Mapping[str, Iterable[int]]) -> Iterator[RawBody]:
    """Yield what lies at the given positions of the given segments, in order; raises DamagedStore."""
    for name, positions in wanted.items():
        keep, base = set(positions), 0
        for _, batch in read_segments(folder, [name], _BODY_COLUMNS):
            for offset in range(batch.num_rows):
                if base + offset in keep:
                    yield RawBody(name, base + offset, **batch.slice(offset, 1).to_pylist()[0])
            base += batch.num_rows


def locate_bodies(raw: Path, key: str) -> Iterator[tuple[str, int, str]]:
    """Yield segment, position and SHA-256 of all bytes that were ever fetched for a key and are still there."""
    for name, position, row in _rows_of(raw, key):
        if row["sha256"] is not None:
            yield name, position, row["sha256"]


def segments_with_key(raw: Path, key: str) -> dict[str, list[int]]:
    """Return the raw segments with bytes of a key, or with the links of its page, and the positions of its rows."""
    found: dict[str, list[int]] = {}
    for name, position, row in _rows_of(raw, key):
        if any(value is not None for value in row.values()):
            found.setdefault(name, []).append(position)
    return found


def _rows_of(raw: Path, key: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield segment and position of every row of a key, with what it holds of the page, its body apart."""
    for name in sorted(path.name for path in raw.glob("*.parquet")):
        position = 0
        for _, batch in read_segments(raw, [name], _columns_with_content(raw / name), batch_rows=1024):
            for offset, row in enumerate(batch.to_pylist()):
                if row.pop("key") == key:
                    yield name, position + offset, row
            position += batch.num_rows


def _columns_with_content(segment: Path) -> list[str]:
    """Return the key's column and those that tell what is known of its page; files have no links."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return [name for name in ("key", "sha256", "links") if name in pq.read_schema(segment).names]
    except (OSError, pa.ArrowException) as error:
        raise DamagedStore(str(segment), str(error)) from error


def redact_rows(segment: Path, positions: Collection[int]) -> int:
    """Rewrite a raw segment without what those rows hold; the others stay where they are. Returns how many.

    The one exception to segments being immutable: erasing. A crash leaves the old file or the new one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    base, blank = 0, set(positions)
    with pq.ParquetFile(segment) as old, atomic_write(segment, segment.with_suffix(".tmp")) as new:
        schema = old.schema_arrow
        nothing = _blank_row(schema)
        with pq.ParquetWriter(new, schema, compression="zstd") as writer:
            for batch in old.iter_batches(batch_size=_REDACTED_ROWS):
                rows, total = pa.Table.from_batches([batch], schema), batch.num_rows
                for offset in (place - base for place in blank if base <= place < base + total):
                    rows = pa.concat_tables([rows[:offset], nothing, rows[offset + 1 :]])
                writer.write_table(rows)
                base += total
        failpoint("raw.blank.before")
    failpoint("raw.blank.after")
    return len(blank)


def _blank_row(schema: pa.Schema) -> pa.Table:
    """Return a row that says that another was there; what may not be null is empty."""
    import pyarrow as pa

    empty = {"key": "", "url": "", "fetched_at": datetime.fromtimestamp(0, UTC), "depth": 0}
    told = empty | {"outcome": "erased", "attempts": 0}
    return pa.Table.from_pylist([{name: told.get(name) for name in schema.names}], schema=schema)


def quarantine_damaged(raw: Path, quarantine: Path) -> list[str]:
    """Move the raw segments that cannot be read whole into the quarantine; returns their names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    damaged = []
    for path in sorted(raw.glob("*.parquet")):
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=64):
                    batch.validate(full=True)
        except (OSError, pa.ArrowException):
            move_to_quarantine(path, quarantine)
            damaged.append(path.name)
    return damaged


def remove_leftovers(paths: KbPaths) -> dict[str, list[str]]:
    """Remove every file of the KB that belongs to nothing finished; only where nobody else can be writing it.

    Returns:
        What there was, by place: unfinished fetches, files set aside as damaged, files and tables half written.
    """
    journal, raw = paths.journals, paths.raw
    found = {
        "unfinished fetches": [path for path in sorted(journal.rglob("*")) if path.is_file()],
        "quarantine": [path for path in sorted(paths.quarantine.rglob("*")) if path.is_file()],
        "unfinished files": [*sorted(raw.glob("*.tmp")), *sorted(paths.versions.glob(".*.tmp"))],
        "tables half removed": sorted(paths.lance.glob(".dropped-*")),
    }
    for folder in (journal, paths.quarantine, *found["tables half removed"]):
        shutil.rmtree(folder, ignore_errors=True)
    for path in found["unfinished files"]:
        path.unlink(missing_ok=True)
    return {place: [str(path.relative_to(paths.root)) for path in files] for place, files in found.items()}
