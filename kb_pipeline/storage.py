"""Where the data of a KB lies on disk, and how bytes are made to survive a power cut."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb_pipeline.errors import DamagedStore
from kb_pipeline.model import KbKey

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class KbPaths:
    """Every path of one KB; nobody else joins paths under the data directory."""

    data_dir: Path
    key: KbKey

    @property
    def root(self) -> Path:
        """The KB's own folder."""
        return self.data_dir / self.key.tenant / self.key.kb

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
    def vectors(self) -> Path:
        """The tenant's embedding cache; no KB can be named so, since a slug has no leading dot."""
        return self.data_dir / self.key.tenant / ".vectors"

    def journal(self, source: str) -> Path:
        """Where an unfinished fetch of that source keeps what it has."""
        return self.root / "journal" / source


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fsync_path(path.parent)


def adopt_segments(journal: Path, raw: Path, prefix: str, wanted: Collection[str]) -> None:
    """Move the wanted segments of a finished fetch among the raw ones as `prefix-name`, and drop the others.

    Doing it again after a crash half-way moves what is left.
    """
    raw.mkdir(parents=True, exist_ok=True)
    for segment in journal.glob("*.parquet"):
        if (name := f"{prefix}-{segment.name}") in wanted:
            segment.replace(raw / name)
    fsync_path(raw)
    shutil.rmtree(journal, ignore_errors=True)


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


def read_bodies(folder: Path, wanted: Mapping[str, Iterable[int]]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Stream the rows (with bodies) at the given positions of the given segments, in order."""
    for name, positions in wanted.items():
        keep, base = set(positions), 0
        for _, batch in read_segments(folder, [name], ["key", "url", "content_type", "sha256", "body", "fetched_at"]):
            for offset in range(batch.num_rows):
                if base + offset in keep:
                    yield name, base + offset, batch.slice(offset, 1).to_pylist()[0]
            base += batch.num_rows
