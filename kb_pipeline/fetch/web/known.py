"""What an earlier refresh knows of each page, kept compactly for a million keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("key", "depth", "etag", "last_modified", "sha256")


@dataclass(frozen=True, slots=True)
class KnownPage:
    """The validators and the hash of a page as it was last kept."""

    key: str
    depth: int
    etag: str | None
    last_modified: str | None
    sha256: str | None


class KnownPages:
    """A table of known pages, looked up by key; costs about 16 bytes a key beside its Arrow columns."""

    def __init__(self, path: Path | None) -> None:
        import numpy as np

        self._table = _read(path) if path is not None else None
        keys = self._table.column("key") if self._table is not None else ()
        # Hashes of this process's own str.__hash__: 64 bits, and a hit is verified against the key itself.
        hashes = np.fromiter((hash(key.as_py()) for key in keys), np.int64, count=len(keys))
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def __len__(self) -> int:
        return len(self._hashes)

    def keys(self) -> Iterator[tuple[str, int]]:
        """Every key and its depth, in the order of the file."""
        if self._table is None:
            return
        for batch in self._table.to_batches(max_chunksize=1024):
            yield from zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)

    def get(self, key: str) -> KnownPage | None:
        """What is known of a key."""
        at = int(self._hashes.searchsorted(hash(key)))
        while at < len(self._hashes) and self._hashes[at] == hash(key):
            row = int(self._order[at])
            if self._value("key", row) == key:
                return KnownPage(*(self._value(name, row) for name in COLUMNS))
            at += 1
        return None

    def _value(self, column: str, row: int) -> Any:  # noqa: ANN401 - str or int, as the column has it
        if self._table is None:
            raise LookupError(column)
        return self._table.column(column)[row].as_py()


def _read(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=list(COLUMNS)).select(list(COLUMNS)).combine_chunks()
