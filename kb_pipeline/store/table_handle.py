"""An open Lance table and the rules for touching it: who may write, and what damage looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kb_pipeline.errors import DamagedStore
from kb_pipeline.failpoints import failpoint
from kb_pipeline.store.stage_tables import role_of


def anyone_may_write() -> None:
    """Allow every write: readers and tests hold no lease."""


class TableHandle:
    """A table at its head, or at a pinned version; what the parts of `LanceTable` share."""

    def __init__(
        self,
        table: Any,  # noqa: ANN401 - lancedb has no type hints to rely on
        path: Path,
        may_write: Callable[[], None] = anyone_may_write,
    ) -> None:
        self.table, self.path, self._may_write = table, path, may_write
        self.role = role_of(path.stem)

    @property
    def version(self) -> int:
        """Lance's own version number of what this handle sees."""
        return int(self.table.version)

    def dataset(self, version: int | None = None) -> Any:  # noqa: ANN401 - lance's own types say little
        """Open the table through Lance itself, which can be told what to rewrite and what not; raises DamagedStore.

        Args:
            version: to open; the head without one.
        """
        import lance

        try:
            return lance.dataset(str(self.path), version=version)
        except (OSError, RuntimeError, ValueError) as error:
            raise DamagedStore(str(self.path), str(error)) from error

    @contextmanager
    def commit(self, action: str) -> Iterator[None]:
        """Surround everything that changes the table: whoever lost the KB's lease is stopped before it does.

        Raises:
            LeaseLost: another run took over.
            DamagedStore: a merge or a delete, which reads before it writes, met a file that cannot be read.
        """
        self._may_write()
        failpoint(f"{self.role}.{action}.before")
        try:
            yield
        except RuntimeError as error:
            if "LanceError(IO)" in str(error):
                raise DamagedStore(str(self.path), str(error)) from error
            raise
        failpoint(f"{self.role}.{action}.after")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Surround everything that reads rows; raises DamagedStore for a file that is cut off."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise DamagedStore(str(self.path), str(error)) from error
