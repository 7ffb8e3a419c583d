"""Where the data of a KB lies on disk, and how bytes are made to survive a power cut."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from kb_pipeline.errors import DamagedStore
from kb_pipeline.failpoints import failpoint
from kb_pipeline.model import KbKey

if TYPE_CHECKING:
    import pyarrow as pa

_BLANK_ROWS = 8
"""Bodies in memory at a time while a segment is rewritten."""


@dataclass(frozen=True, slots=True)
class KbPaths:
    """Every path of one KB; nobody else joins paths under the data directory."""

    data_dir: Path
    key: KbKey

    @property
    def root(self) -> Path:
        """The KB's own folder."""
        return tenant_folder(self.data_dir, self.key.tenant) / self.key.kb

    @property
    def raw(self) -> Path:
        """Immutable Parquet segments with the exact bytes of everything fetched."""
        return self.root / "raw"

    @property
    def lance(self) -> Path:
        """The LanceDB database with the stage tables and the index."""
        return self.root / "lance"

    @property
    def versions(self) -> Path:
        """One manifest file a version."""
        return self.root / "versions"

    @property
    def of_tenant(self) -> Path:
        """Everything of the tenant's."""
        return self.root.parent

    @property
    def vectors(self) -> Path:
        """The tenant's embedding cache; no KB can be named so, since a slug has no leading dot."""
        return tenant_folder(self.data_dir, self.key.tenant) / ".vectors"

    @property
    def quarantine(self) -> Path:
        """Damaged files, set aside for whoever wants to look at them."""
        return self.root / "quarantine"

    @property
    def journals(self) -> Path:
        """The unfinished fetches of all sources, and a note beside each."""
        return self.root / "journal"

    def journal(self, source: str) -> Path:
        """Where an unfinished fetch of that source keeps what it has."""
        return self.journals / source

    def site_notes(self, source: str) -> Path:
        """What is remembered of that source's sites from one fetch to the next."""
        return self.root / "site_notes" / source

    def checks(self, source: str) -> Path:
        """When each page of that source was last asked for, where that decides when it is asked for again."""
        return self.root / "checks" / f"{source}.parquet"


def tenant_folder(data_dir: Path, tenant: str) -> Path:
    """Everything stored of one tenant."""
    return data_dir / tenant


def staging_folder(data_dir: Path) -> Path:
    """Where a backup holds on to files while it copies them; no tenant can be named so."""
    return data_dir / ".backup"


def tenants_with_files(data_dir: Path) -> list[str]:
    """The names of the folders of tenants, by name."""
    return sorted(path.name for path in data_dir.glob("*") if not path.name.startswith("."))


def remove_folder(folder: Path) -> None:
    """Remove a folder for good: gone under its name at once, and after a crash the same call removes the rest."""
    leaving = folder.with_name(f".leaving-{folder.name}")
    shutil.rmtree(leaving, ignore_errors=True)
    if folder.exists():
        folder.rename(leaving)
        failpoint("folder.leaving")
        shutil.rmtree(leaving)
    if folder.parent.exists():
        fsync_path(folder.parent)


def files_beneath(folder: Path) -> list[Path]:
    """Every file of a folder, and of what a killed removal of it left; none when there is neither."""
    roots = [folder, folder.with_name(f".leaving-{folder.name}")]
    return [Path(where, name) for root in roots for where, _, names in os.walk(root) for name in names]


def fsync_path(path: Path) -> None:
    """Force a file's or directory's content to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(root: Path, since_ns: int = 0) -> int:
    """Force every file below `root` changed at or after `since_ns` to disk, and all directories; returns the files."""
    synced = 0
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.stat().st_mtime_ns >= since_ns:
                fsync_path(path)
                synced += 1
        fsync_path(Path(folder))
    return synced


def folder_bytes(root: Path) -> int:
    """Bytes of all files below `root`; 0 when there is no such folder."""
    return sum(Path(folder, name).stat().st_size for folder, _, names in os.walk(root) for name in names)


def write_durably(path: Path, content: bytes) -> None:
    """Write a small file so that a crash leaves the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, path.with_name(f".{path.name}.{os.getpid()}.tmp")) as file:
        file.write(content)


@contextmanager
def atomic_write(path: Path, beside: Path) -> Iterator[IO[bytes]]:
    """A file to write that appears under its name whole and on disk, or not at all; a crash leaves at most `beside`."""
    with beside.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    fsync_path(path.parent)


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


def segments_with_key(raw: Path, key: str) -> dict[str, list[int]]:
    """The raw segments that hold bytes of a key, each with the positions of its rows."""
    found: dict[str, list[int]] = {}
    for name, position, _ in locate_bodies(raw, key):
        found.setdefault(name, []).append(position)
    return found


def locate_bodies(raw: Path, key: str) -> Iterator[tuple[str, int, str]]:
    """Segment, position and SHA-256 of everything with bytes that was ever fetched for a key and is still there."""
    for name in sorted(path.name for path in raw.glob("*.parquet")):
        position = 0
        for _, batch in read_segments(raw, [name], ["key", "sha256"], batch_rows=1024):
            for row in batch.to_pylist():
                if row["key"] == key and row["sha256"] is not None:
                    yield name, position, row["sha256"]
                position += 1


def redact_rows(segment: Path, positions: Collection[int]) -> int:
    """Rewrite a raw segment without what those rows hold; the others stay where they are. Returns how many.

    The one exception to segments being immutable: erasing. A crash leaves the old file or the new one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    base, blank = 0, set(positions)
    with pq.ParquetFile(segment) as old, atomic_write(segment, segment.with_suffix(".tmp")) as new:
        schema = old.schema_arrow
        nothing = pa.Table.from_pylist([_blank_row(schema)], schema=schema)
        with pq.ParquetWriter(new, schema, compression="zstd") as writer:
            for batch in old.iter_batches(batch_size=_BLANK_ROWS):
                rows, total = pa.Table.from_batches([batch], schema), batch.num_rows
                for offset in (place - base for place in blank if base <= place < base + total):
                    rows = pa.concat_tables([rows[:offset], nothing, rows[offset + 1 :]])
                writer.write_table(rows)
                base += total
        failpoint("raw.blank.before")
    failpoint("raw.blank.after")
    return len(blank)


def _blank_row(schema: pa.Schema) -> dict[str, Any]:
    """A row that says that another was there; what may not be null is empty."""
    empty: dict[str, Any] = {"key": "", "url": "", "fetched_at": datetime.fromtimestamp(0, UTC), "depth": 0}
    return {name: ({"outcome": "erased", "attempts": 0} | empty).get(name) for name in schema.names}


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


def move_to_quarantine(path: Path, quarantine: Path) -> None:
    """Move a damaged file or folder into the quarantine, under a name of its own."""
    quarantine.mkdir(parents=True, exist_ok=True)
    path.replace(quarantine / f"{time.time_ns():x}-{path.parent.parent.stem}-{path.name}")
    fsync_path(quarantine)


def read_bodies(folder: Path, wanted: Mapping[str, Iterable[int]]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Stream the rows (with bodies) at the given positions of the given segments, in order."""
    for name, positions in wanted.items():
        keep, base = set(positions), 0
        for _, batch in read_segments(folder, [name], ["key", "url", "content_type", "sha256", "body", "fetched_at"]):
            for offset in range(batch.num_rows):
                if base + offset in keep:
                    yield name, base + offset, batch.slice(offset, 1).to_pylist()[0]
            base += batch.num_rows
