"""What an earlier refresh knows of each page, kept compactly for a million keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = (
    "key", "depth", "etag", "last_modified", "sha256", "lastmod", "rendered", "waits", "reason", "message", "consent",
    "shell",
)  # fmt: skip
_BATCH = 1024


@dataclass(frozen=True, slots=True)
class KnownPage:
    """A page as it was last kept, or a key whose newest try failed."""

    key: str
    depth: int
    etag: str | None
    last_modified: str | None
    sha256: str | None
    """Of the stored bytes; None when there are none."""
    lastmod: str | None
    """What the sitemap said when the page was asked for; None if that try failed."""
    rendered: bool | None
    """Whether the stored bytes are what a browser made of it."""
    waits: bool | None
    """Whether this refresh does not ask for it: it is not due, or failed too recently or too often."""
    reason: str | None
    message: str | None
    """Why the newest try failed; None when it did not."""
    consent: str | None
    """What it said of its use; see consent.py."""
    shell: bool | None
    """Whether the server sent a page that is nothing without its scripts; None where nobody looked."""


class KnownPages:
    """A table of known keys, looked up by key; costs about 16 bytes a key beside its Arrow columns.

    A key without a hash has been met but gave no page. One that failed has a reason and is asked for again; the others
    (a redirect, an image) are no pages to ask after, yet nothing new either when they are discovered again.
    """

    def __init__(self, path: Path | None) -> None:
        import numpy as np

        self._table = _read(path) if path is not None else None
        # Hashes of this process's own str.__hash__: 64 bits, and a hit is verified against the key itself.
        hashes = np.fromiter((hash(key) for key in self._column(0)), np.int64, count=len(self))
        self._has_bytes = np.fromiter((sha256 is not None for sha256 in self._column(4)), np.bool_, count=len(self))
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def __len__(self) -> int:
        return self._table.num_rows if self._table is not None else 0

    def pages(self, is_urgent: Callable[[KnownPage], bool]) -> Iterator[KnownPage]:
        """Every page to ask after, the urgent ones first; else in the order of the file."""
        others = 0
        for page in self._pages():
            if is_urgent(page):
                yield page
            else:
                others += 1
        # Converted twice rather than held: pages may be a million.
        if others:
            yield from (page for page in self._pages() if not is_urgent(page))

    def has(self, key: str) -> bool:
        """Whether the key has been met."""
        return self._row(key) is not None

    def has_page(self, key: str) -> bool:
        """Whether bytes of that key are stored."""
        row = self._row(key)
        return row is not None and bool(self._has_bytes[row])

    def get(self, key: str) -> KnownPage | None:
        """The page of a key, if it is one to ask after."""
        row = self._row(key)
        if row is None or self._table is None:
            return None
        page = KnownPage(**self._table.slice(row, 1).to_pylist()[0])
        return page if page.sha256 or page.reason else None

    def _pages(self) -> Iterator[KnownPage]:
        for batch in self._table.to_batches(max_chunksize=_BATCH) if self._table is not None else ():
            columns = (column.to_pylist() for column in batch.columns)
            for fields in zip(*columns, strict=True):
                page = KnownPage(*fields)
                if page.sha256 or page.reason:
                    yield page

    def _column(self, number: int) -> Iterator[str | None]:
        for batch in self._table.to_batches(max_chunksize=_BATCH) if self._table is not None else ():
            yield from batch.column(number).to_pylist()

    def _row(self, key: str) -> int | None:
        if self._table is None:
            return None
        wanted = hash(key)
        at = int(self._hashes.searchsorted(wanted))
        while at < len(self._hashes) and self._hashes[at] == wanted:
            row = int(self._order[at])
            if self._key_column[row].as_py() == key:
                return row
            at += 1
        return None

    @property
    def _key_column(self) -> Any:  # noqa: ANN401 - a pyarrow array
        return self._table.column(0).chunk(0) if self._table is not None else []


def _read(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return file.read(columns=list(COLUMNS)).select(list(COLUMNS)).combine_chunks()
