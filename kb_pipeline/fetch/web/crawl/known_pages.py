"""Looks up what an earlier refresh stored of each page, in a table small enough for a million keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb_pipeline.fetch.source import QUOTA
from kb_pipeline.fetch.web.reasons import REFUSALS

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

COLUMNS = (
    "key", "depth", "etag", "last_modified", "sha256", "lastmod", "rendered", "waits", "outcome", "reason", "message",
    "consent", "shell", "status", "redirect_to",
)  # fmt: skip
_BATCH = 1024
_RECENT = 4096
"""Keys whose rows are remembered, and pages."""


@dataclass(frozen=True, slots=True)
class KnownPage:
    """A page as it was last stored, or a key that gave none."""

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
    """Whether this refresh does not request it: it is not due, or failed or was refused too recently."""
    outcome: str | None
    """Of the last refresh that decided about it: fetched (unchanged ones too), redirected, rejected or failed."""
    reason: str | None
    message: str | None
    """Why the last refresh got nothing; None when it did."""
    consent: str | None
    """Its robots directives; see usage_directives."""
    shell: bool | None
    """Whether the server sent a page that is empty without its scripts; None when that is unknown."""
    status: int | None
    redirect_to: str | None
    """Where it redirected to."""

    @property
    def was_asked(self) -> bool:
        """Whether its last outcome came from the server, not from rules of ours, which are asked anew each time."""
        return self.outcome in ("failed", "redirected") or self.reason in REFUSALS


class KnownPages:
    """A table of known keys, looked up by key; costs about 16 bytes a key in addition to its Arrow columns."""

    def __init__(self, path: Path | None) -> None:
        import numpy as np

        self._table = _read(path) if path is not None else None
        # 64-bit hashes by this process's str.__hash__; a hit is verified against the key itself.
        hashes = np.fromiter((hash(key) for key in self._column(0)), np.int64, count=len(self))
        self._has_bytes = np.fromiter((sha256 is not None for sha256 in self._column(4)), np.bool_, count=len(self))
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]
        columns = self._table.columns if self._table is not None and len(self) else ()
        self._columns: list[Any] = [column.chunk(0) for column in columns]
        self._recent: dict[str, int | None] = {}
        self._recent_pages: dict[int, KnownPage] = {}

    def __len__(self) -> int:
        return self._table.num_rows if self._table is not None else 0

    @property
    def pages_with_bytes(self) -> int:
        """The number of pages with stored bytes."""
        return int(self._has_bytes.sum())

    @property
    def hashes_with_bytes(self) -> NDArray[np.int64]:
        """The hashes of the keys with stored bytes."""
        found: NDArray[np.int64] = self._hashes[self._has_bytes[self._order]]
        return found

    def pages(self, is_urgent: Callable[[KnownPage], bool]) -> Iterator[KnownPage]:
        """Yield every page to ask for: with stored bytes, or left out by a quota, whose turn it is now.

        The urgent ones come first, otherwise they are in the order of the file.
        """
        others = 0
        for page in self._to_ask():
            if is_urgent(page):
                yield page
            else:
                others += 1
        # Converted twice rather than held: pages may be a million.
        if others:
            yield from (page for page in self._to_ask() if not is_urgent(page))

    def stored(self) -> Iterator[KnownPage]:
        """Yield every page with stored bytes, in the order of the file."""
        return (page for page in self._pages() if page.sha256)

    def has(self, key: str) -> bool:
        """Return whether the key is known."""
        return self._row(key) is not None

    def has_page(self, key: str) -> bool:
        """Return whether bytes of this key are stored."""
        row = self._row(key)
        return row is not None and bool(self._has_bytes[row])

    def get(self, key: str) -> KnownPage | None:
        """Return what is known of a key; None if it was never met."""
        row = self._row(key)
        if row is None:
            return None
        if row not in self._recent_pages:
            self._recent_pages[row] = KnownPage(*(column[row].as_py() for column in self._columns))
        return self._recent_pages[row]

    def _to_ask(self) -> Iterator[KnownPage]:
        return (page for page in self._pages() if page.sha256 or page.reason == QUOTA)

    def _pages(self) -> Iterator[KnownPage]:
        for batch in self._table.to_batches(max_chunksize=_BATCH) if self._table is not None else ():
            columns = (column.to_pylist() for column in batch.columns)
            for fields in zip(*columns, strict=True):
                yield KnownPage(*fields)

    def _column(self, number: int) -> Iterator[str | None]:
        for batch in self._table.to_batches(max_chunksize=_BATCH) if self._table is not None else ():
            yield from batch.column(number).to_pylist()

    def _row(self, key: str) -> int | None:
        """Return the number of a key's row; it is asked for several times while the key has its turn."""
        if key not in self._recent:
            if len(self._recent) >= _RECENT:
                self._recent.clear()
                self._recent_pages.clear()
            self._recent[key] = self._find(key)
        return self._recent[key]

    def _find(self, key: str) -> int | None:
        if not self._columns:
            return None
        key_hash = hash(key)
        position = int(self._hashes.searchsorted(key_hash))
        while position < len(self._hashes) and self._hashes[position] == key_hash:
            row = int(self._order[position])
            if self._columns[0][row].as_py() == key:
                return row
            position += 1
        return None


def _read(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return file.read(columns=list(COLUMNS)).select(list(COLUMNS)).combine_chunks()
