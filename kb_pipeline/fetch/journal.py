"""The journal of a fetch: immutable Parquet segments, one row for each key that has an outcome.

The writer first appends a row to the open segment, a file of MessagePack frames, so that a killed fetch loses nothing
that it got. Full segments become Parquet, written under a temporary name, synced and renamed, so that a segment under
its final name is complete; a resumed fetch converts the open segment. It may request keys again whose failure was
transient: the last row of a key, in segment order, is the one that counts.
"""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import msgspec

from kb_pipeline.failpoints import failpoint
from kb_pipeline.model import PagesUsed
from kb_pipeline.store.durable_files import atomic_write

if TYPE_CHECKING:
    import pyarrow as pa

SEGMENT_ROWS = 256
"""Rows with a body."""
LIGHT_SEGMENT_ROWS = 4096
"""Rows with or without a body: a sync costs as much as a hundred rows without one."""
SEGMENT_BYTES = 8 * 1024 * 1024
_UNFINISHED, _OPEN = ".tmp", ".open"
_LENGTH = struct.Struct(">I")
"""The length prefix of each row in an open segment."""


class JournalRow(Protocol):
    """What the journal itself reads of a row; what else there is, the row's format says."""

    key: str
    fetched_at: datetime
    attempts: int
    """Pages that it cost."""
    body: bytes | None
    received: int
    """Bytes that came, kept or not."""


RowT = TypeVar("RowT", bound=JournalRow)


@dataclass(frozen=True, slots=True)
class RowFormat(Generic[RowT]):
    """How the sources of one type write their rows."""

    kind: type[RowT]
    """A msgspec.Struct with array_like: the order of its fields is that of open segments on disk."""
    schema: Callable[[], pa.Schema]
    """The columns of a segment; `SHARED` are among them."""


class DocumentRow(msgspec.Struct, array_like=True):
    """What became of one key: all that a source needs whose documents are not pages of the web."""

    key: str
    url: str
    """Where the bytes came from."""
    outcome: str
    """fetched, unchanged, rejected or failed."""
    fetched_at: datetime
    attempts: int = 0
    reason: str | None = None
    message: str | None = None
    content_type: str | None = None
    sha256: str | None = None
    body: bytes | None = None
    state: str | None = None
    """What the source wants to be told of the key next time."""
    received: int = 0


def _document_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("url", pa.string(), nullable=False),
            pa.field("outcome", pa.string(), nullable=False),
            pa.field("fetched_at", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("attempts", pa.int16(), nullable=False),
            ("reason", pa.string()),
            ("message", pa.string()),
            ("content_type", pa.string()),
            ("sha256", pa.string()),
            ("body", pa.binary()),
            ("state", pa.string()),
            ("received", pa.int64()),
        ]
    )


DOCUMENT_ROWS = RowFormat(DocumentRow, _document_schema)


def segments(journal: Path) -> list[Path]:
    """Return the complete segments, oldest first."""
    return sorted(journal.glob("[0-9]*.parquet")) if journal.is_dir() else []


def read_outcomes(journal: Path, schema: pa.Schema) -> pa.Table:
    """Return a pyarrow table of the last row of every key, all columns of the schema but `body`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    read_columns = [name for name in schema.names if name != "body"]
    tables = [pq.ParquetFile(path).read(columns=read_columns) for path in segments(journal)]
    if not tables:
        return schema.remove(schema.get_field_index("body")).empty_table()
    table = pa.concat_tables(tables, promote_options="default")  # older segments lack columns
    last = {key: number for number, key in enumerate(table.column("key").to_pylist())}
    return table.take(pa.array(sorted(last.values()), pa.int64()))


def read_rows(journal: Path, outcomes: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the last row of every key, as `read_outcomes` gave them, with its body, a few in memory at a time."""
    import pyarrow.parquet as pq

    table = outcomes
    last = dict(zip(table.column("key").to_pylist(), table.column("fetched_at").to_pylist(), strict=True))
    for path in segments(journal):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=8):
                for row in batch.to_pylist():
                    if last.get(row["key"]) == row["fetched_at"]:
                        yield row


def pages_used(journal: Path, rows: RowFormat[RowT]) -> dict[str, PagesUsed]:
    """Return what the rows of a journal cost, by UTC day; a page that was requested again later counts again.

    The rows that a killed fetch left in an open segment are included.
    """
    days: defaultdict[str, list[int]] = defaultdict(list)
    for fetched_at, attempts, received in _costs(journal, rows):
        if attempts:
            days[fetched_at.astimezone(UTC).date().isoformat()].append(received or 0)
    return {day: PagesUsed(len(sizes), sum(sizes)) for day, sizes in days.items()}


def _costs(journal: Path, rows: RowFormat[RowT]) -> Iterator[tuple[datetime, int, int | None]]:
    import pyarrow.parquet as pq

    for path in segments(journal):
        with pq.ParquetFile(path) as file:
            for row in file.read(columns=["fetched_at", "attempts", "received"]).to_pylist():
                # Segments of earlier releases lack the column `received`.
                yield row["fetched_at"], row["attempts"], row.get("received")
    for path in sorted(journal.glob(f"[0-9]*{_OPEN}")):
        if not path.with_suffix(".parquet").exists():
            yield from ((row.fetched_at, row.attempts, row.received) for row in _read_frames(path, rows.kind))


class JournalWriter(Generic[RowT]):
    """Appends rows to a journal; one writer at a time."""

    def __init__(self, journal: Path, rows: RowFormat[RowT]) -> None:
        journal.mkdir(parents=True, exist_ok=True)
        for torn in journal.glob(f"*{_UNFINISHED}"):
            torn.unlink()
        _close_segments(journal, rows)
        written = segments(journal)
        self._journal, self._format = journal, rows
        self._next = int(written[-1].stem) + 1 if written else 1
        self._open: int | None = None
        """The descriptor of the open segment."""
        self._encoder = msgspec.msgpack.Encoder()
        self._rows: list[RowT] = []
        self._bytes = self._bodies = 0
        # One thread keeps segments in order while syncing to disk does not stop the fetch.
        self._thread = ThreadPoolExecutor(1, "journal")
        self._writing: Future[None] | None = None

    def append(self, row: RowT) -> None:
        """Append a row, safe from a kill on return; full segments are written in the background, one at a time."""
        frame = self._encoder.encode(row)
        if self._open is None:
            self._open = os.open(self._path(_OPEN), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        _write_all(self._open, [_LENGTH.pack(len(frame)), frame])
        self._rows.append(row)
        if row.body is not None:
            self._bytes += len(row.body)
            self._bodies += 1
        if self._bodies >= SEGMENT_ROWS or self._bytes >= SEGMENT_BYTES or len(self._rows) >= LIGHT_SEGMENT_ROWS:
            self._close_segment()

    def close(self) -> None:
        """Write the open segment and wait until it is on disk."""
        self._close_segment()
        self._wait()
        self._thread.shutdown()

    def _close_segment(self) -> None:
        """Start writing the open segment, after waiting for the previous one; raise the error of that one."""
        self._wait()
        if self._open is not None:
            os.close(self._open)
            rows, self._rows, self._bytes, self._bodies = self._rows, [], 0, 0
            self._writing = self._thread.submit(_write_segment, self._path(".parquet"), rows, self._format.schema())
            self._open, self._next = None, self._next + 1

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _path(self, suffix: str) -> Path:
        return self._journal / f"{self._next:06d}{suffix}"


def _write_all(descriptor: int, parts: Sequence[bytes]) -> None:
    written = os.writev(descriptor, parts)
    if written < sum(map(len, parts)):  # a disk that is filling up takes a part, and then fails
        rest = b"".join(parts)[written:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def _close_segments(journal: Path, form: RowFormat[RowT]) -> None:
    """Convert the open segments that a killed fetch left to Parquet, without a frame that was cut off."""
    for path in sorted(journal.glob(f"[0-9]*{_OPEN}")):
        segment = path.with_suffix(".parquet")
        rows = list(_read_frames(path, form.kind))
        if rows and not segment.exists():
            _write_segment(segment, rows, form.schema())
        path.unlink(missing_ok=True)


def _read_frames(path: Path, kind: type[RowT]) -> Iterator[RowT]:
    decoder = msgspec.msgpack.Decoder(kind)
    with path.open("rb") as file:
        while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
            frame = file.read(*_LENGTH.unpack(head))
            try:
                yield decoder.decode(frame)
            except msgspec.DecodeError:  # cut off
                return


def _write_segment(path: Path, rows: Sequence[RowT], schema: pa.Schema) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
    with atomic_write(path, path.with_suffix(_UNFINISHED)) as file:
        pq.write_table(pa.Table.from_pydict(columns, schema=schema), file, compression="zstd")
    path.with_suffix(_OPEN).unlink(missing_ok=True)
    failpoint("journal.segment")
