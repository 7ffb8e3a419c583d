"""The journal of a crawl: immutable Parquet segments, one row for each URL that came to its end.

A segment is written beside, synced and renamed, so one that has its name is complete. When a crawl is
resumed, keys whose failure was transient are asked for again: the last row of a key, in segment order, is the
one that counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from kb_pipeline.failpoints import failpoint
from kb_pipeline.storage import written_beside

if TYPE_CHECKING:
    import pyarrow as pa

SEGMENT_ROWS = 64
"""Rows with a body; a kill costs at most so many fetched pages."""
LIGHT_SEGMENT_ROWS = 4096
"""Rows of any kind: those without a body are soon asked for again, and a sync costs as much as a hundred of them."""
SEGMENT_BYTES = 8 * 1024 * 1024
SEGMENT_SECONDS = 2.0
_UNFINISHED = ".tmp"


@dataclass(slots=True)
class Row:
    """What became of one URL."""

    key: str
    """The canonical URL."""
    url: str
    """The URL that answered."""
    outcome: str
    """fetched, unchanged, redirected, rejected or failed."""
    fetched_at: datetime
    depth: int
    attempts: int = 0
    """Requests made for it."""
    reason: str | None = None
    message: str | None = None
    status: int | None = None
    redirect_to: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    content_type: str | None = None
    sha256: str | None = None
    body: bytes | None = None
    lastmod: str | None = None
    """What the sitemap said of it before it was asked for, once that moment is past for sure."""


@lru_cache(maxsize=1)
def schema() -> pa.Schema:
    """The columns of a segment, as a pyarrow schema."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("url", pa.string(), nullable=False),
            pa.field("outcome", pa.string(), nullable=False),
            ("reason", pa.string()),
            ("message", pa.string()),
            ("status", pa.int16()),
            ("redirect_to", pa.string()),
            ("etag", pa.string()),
            ("last_modified", pa.string()),
            ("content_type", pa.string()),
            ("sha256", pa.string()),
            ("body", pa.binary()),
            pa.field("fetched_at", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("depth", pa.int32(), nullable=False),
            pa.field("attempts", pa.int16(), nullable=False),
            ("lastmod", pa.string()),
        ]
    )


def segments(journal: Path) -> list[Path]:
    """The complete segments, oldest first."""
    return sorted(journal.glob("[0-9]*.parquet")) if journal.is_dir() else []


def read_outcomes(journal: Path) -> pa.Table:
    """A pyarrow table of the last row of every key, all columns but `body`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    narrow = [name for name in schema().names if name != "body"]
    tables = [pq.ParquetFile(path).read(columns=narrow) for path in segments(journal)]
    if not tables:
        return schema().remove(schema().get_field_index("body")).empty_table()
    table = pa.concat_tables(tables)
    last = {key: number for number, key in enumerate(table.column("key").to_pylist())}
    return table.take(pa.array(sorted(last.values()), pa.int64()))


def read_rows(journal: Path, outcomes: pa.Table | None = None) -> Iterator[dict[str, Any]]:
    """Yield the last row of every key with its body, a few in memory at a time.

    `outcomes`, the result of read_outcomes, saves reading it again.
    """
    import pyarrow.parquet as pq

    table = read_outcomes(journal) if outcomes is None else outcomes
    last = dict(zip(table.column("key").to_pylist(), table.column("fetched_at").to_pylist(), strict=True))
    for path in segments(journal):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=8):
                for row in batch.to_pylist():
                    if last.get(row["key"]) == row["fetched_at"]:
                        yield row


class JournalWriter:
    """Appends rows to a journal; one writer at a time."""

    def __init__(self, journal: Path) -> None:
        journal.mkdir(parents=True, exist_ok=True)
        for torn in journal.glob(f"*{_UNFINISHED}"):
            torn.unlink()
        written = segments(journal)
        self._journal = journal
        self._next = int(written[-1].stem) + 1 if written else 1
        self._rows: list[Row] = []
        self._bytes = self._bodies = 0
        self._since = monotonic()
        # One thread keeps segments in order while syncing to disk does not stop the crawl.
        self._thread = ThreadPoolExecutor(1, "journal")
        self._writing: Future[None] | None = None

    def append(self, row: Row) -> None:
        """Add a row; full segments are written in the background, at most one behind."""
        if not self._rows:
            self._since = monotonic()
        self._rows.append(row)
        if row.body is not None:
            self._bytes += len(row.body)
            self._bodies += 1
        if self._bodies >= SEGMENT_ROWS or self._bytes >= SEGMENT_BYTES or len(self._rows) >= LIGHT_SEGMENT_ROWS:
            self.flush()

    def flush_if_old(self) -> None:
        """Write the rows that have waited for SEGMENT_SECONDS."""
        if self._rows and monotonic() - self._since >= SEGMENT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Start writing what there is; waits for, and reports the error of, the segment before."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None
        if self._rows:
            rows, self._rows, self._bytes, self._bodies = self._rows, [], 0, 0
            self._writing = self._thread.submit(_write_segment, self._journal, self._next, rows)
            self._next += 1

    def close(self) -> None:
        """Write the rest and wait until it is on disk."""
        self.flush()
        self.flush()
        self._thread.shutdown()


def _write_segment(journal: Path, number: int, rows: list[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {field.name: [getattr(row, field.name) for row in rows] for field in fields(Row)}
    arrays = {name: columns[name] for name in schema().names}
    path = journal / f"{number:06d}.parquet"
    with written_beside(path, path.with_suffix(_UNFINISHED)) as file:
        pq.write_table(pa.Table.from_pydict(arrays, schema=schema()), file, compression="zstd")
    failpoint("journal.segment")
