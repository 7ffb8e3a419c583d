"""A version of a KB opened for reading."""

from __future__ import annotations

import threading
from types import TracebackType

from kb_pipeline.index.exact_vectors import ExactVectors
from kb_pipeline.model import KbKey, digest
from kb_pipeline.store.kb_store import KbStore
from kb_pipeline.store.manifest import Manifest
from kb_pipeline.store.table import LanceTable

VECTOR_INDEX_FROM_ROWS = 20_000
"""Fewer vectors are compared one by one in less time than an index of them takes to be made and kept."""
_FLOAT32_BYTES = 4


class VersionReader:
    """The tables of one version, each opened once at the Lance version that the manifest pins.

    Safe to share between threads and to keep for as long as the version is kept: nothing that is published later
    changes what it reads. A cache of readers is keyed by `Manifest.data_identity`, and drops a reader without closing
    it, since others may be reading; `close` is for whoever is its only user.
    """

    def __init__(self, store: KbStore, manifest: Manifest) -> None:
        self.store, self.manifest = store, manifest
        self._opened: dict[str, LanceTable] = {}
        self._indexed_columns: frozenset[str] | None = None
        self._exact_vectors: ExactVectors | None = None
        self._is_closed = False
        self._opening, self._reading = threading.Lock(), threading.Lock()

    @property
    def key(self) -> KbKey:
        """The KB."""
        return self.manifest.kb

    @property
    def number(self) -> int:
        """The number of the version; 0 for a candidate."""
        return self.manifest.version

    @property
    def data_digest(self) -> str:
        """A hash of the data of the version: the same number has another one after a document was erased."""
        return digest(str(self.manifest.data_identity), self.manifest.run_id)[:16]

    def table(self, role: str) -> LanceTable:
        """Return a table of the version: `pages`, `documents`, `chunks` or `index`; raises DamagedStore."""
        with self._opening:
            if self._is_closed:
                raise ValueError(f"{self.key}: version {self.number} is closed")
            if role not in self._opened:
                pin = self.manifest.tables[role]
                self._opened[role] = self.store.tables.open(pin.name, pin.version)
            return self._opened[role]

    @property
    def indexed_columns(self) -> frozenset[str]:
        """Columns of the index table that have an index, asked of Lance once."""
        if self._indexed_columns is None:
            self._indexed_columns = frozenset(self.table("index").indexes.columns())
        return self._indexed_columns

    @property
    def exact_vectors(self) -> ExactVectors:
        """All vectors of the version, read once; for a version without a vector index. Raises DamagedStore."""
        table = self.table("index")
        with self._reading:  # threads that need them at once wait for one reading
            if self._exact_vectors is None:
                self._exact_vectors = ExactVectors.read(table)
            return self._exact_vectors

    @property
    def most_memory_bytes(self) -> int:
        """The most that an open reader keeps in memory, as far as it grows with the version."""
        rows = self.manifest.counts.chunks
        return 0 if rows >= VECTOR_INDEX_FROM_ROWS else rows * self.manifest.model.dimension * _FLOAT32_BYTES

    def close(self) -> None:
        """Close the tables; the reader cannot be used afterwards."""
        with self._opening:
            self._is_closed = True
            for table in self._opened.values():
                table.close()
            self._opened.clear()
            self._exact_vectors = None

    def __enter__(self) -> VersionReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
