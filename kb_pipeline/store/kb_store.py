"""Everything stored of one KB, opened as it is needed."""

from __future__ import annotations

from collections.abc import Callable

from kb_pipeline.store.lance_database import LanceDatabase
from kb_pipeline.store.paths import KbPaths
from kb_pipeline.store.table_handle import anyone_may_write


class KbStore:
    """The paths and databases of one KB; may be shared between threads that read."""

    def __init__(self, paths: KbPaths, may_write: Callable[[], None] = anyone_may_write) -> None:
        self.paths, self.key, self._may_write = paths, paths.key, may_write
        self._tables: LanceDatabase | None = None
        self._vectors: LanceDatabase | None = None

    def has_table(self, name: str) -> bool:
        """Whether the KB has that table; answered without loading Lance."""
        return (self.paths.lance / f"{name}.lance").exists()

    @property
    def tables(self) -> LanceDatabase:
        """The KB's own tables."""
        if self._tables is None:
            self._tables = LanceDatabase(self.paths.lance, self._may_write)
        return self._tables

    @property
    def vectors(self) -> LanceDatabase:
        """The tenant's embedding cache, one table a model."""
        if self._vectors is None:
            self._vectors = LanceDatabase(self.paths.vectors, self._may_write)
        return self._vectors
