"""Looks up what an earlier refresh stored of each page, in a table small enough for a million keys."""

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
    """A page as it was last stored, or a key whose last attempt failed."""

    key: str
    depth: int
    etag: str | None
    last_modified: str | None
    sha256: str | None
    """Of the stored bytes; None when there are none."""
    lastmod: str | None
    """The sitemap's lastmod when the page was requested; None if that attempt failed."""
    rendered: bool | None
    """Whether the stored bytes were rendered in a browser."""
    waits: bool | None
    """Whether this refresh does not request it: it is not due, or failed too recently or too often."""
    reason: str | None
    message: str | None
    """Why the last attempt failed; None when it did not."""
    consent: str | None
    """Its robots directives; see usage_directives."""
    shell: bool | None
    """Whether the server sent a page that is empty without its scripts; None when that is unknown."""


class KnownPages:
    """A table of known keys, looked up by key; costs about 16 bytes a key in addition to its Arrow columns.

    A key without a hash was discovered before but gave no page. One that failed has a reason and is requested again;
    the others (a redirect, an image) are not, yet they are not new either when they are discovered again.
    """

    def __init__(self, path: Path | None) -> None:
        import numpy as np

        self._table = _read(path) if path is not None else None
        # 64-bit hashes by this process's str.__hash__; a hit is verified against the key itself.
        hashes = np.fromiter((hash(key) for key in self._column(0)), np.int64, count=len(self))
        self._has_bytes = np.fromiter((sha256 is not None for sha256 in self._column(4)), np.bool_, count=len(self))
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def __len__(self) -> int:
        return self._table.num_rows if self._table is not None else 0

    def pages(self, is_urgent: Callable[[KnownPage], bool]) -> Iterator[KnownPage]:
        """Yield every page to request, the urgent ones first, otherwise in the order of the file."""
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
        """Return whether the key is known."""
        return self._row(key) is not None

    def has_page(self, key: str) -> bool:
        """Return whether bytes of this key are stored."""
        row = self._row(key)
        return row is not None and bool(self._has_bytes[row])

    def get(self, key: str) -> KnownPage | None:
        """Return the page of a key if it is to be requested, else None."""
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
        key_hash = hash(key)
        position = int(self._hashes.searchsorted(key_hash))
        while position < len(self._hashes) and self._hashes[position] == key_hash:
            row = int(self._order[position])
            if self._key_column[row].as_py() == key:
                return row
            position += 1
        return None

    @property
    def _key_column(self) -> Any:  # noqa: ANN401 - a pyarrow array
        return self._table.column(0).chunk(0) if self._table is not None else []


def _read(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return file.read(columns=list(COLUMNS)).select(list(COLUMNS)).combine_chunks()
