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
        table: Any,  # noqa: ANN401 - a lance dataset, whose own types say little
        path: Path,
        may_write: Callable[[], None] = anyone_may_write,
        *,
        is_pinned: bool = False,
    ) -> None:
        self._table, self.path, self._may_write, self._is_pinned = table, path, may_write, is_pinned
        self.role = role_of(path.stem)

    @property
    def table(self) -> Any:  # noqa: ANN401 - as given
        """The lance dataset."""
        if self._table is None:
            raise RuntimeError(f"{self.path} was closed")
        return self._table

    def close(self) -> None:
        """Free the dataset."""
        self._table = None

    @property
    def version(self) -> int:
        """Lance's own version number of what this handle sees."""
        return int(self.table.version)

    def head(self) -> Any:  # noqa: ANN401 - lance's own types say little
        """Open what the table is now, whatever others have made of it since `table` was opened; raises DamagedStore."""
        import lance

        try:
            return lance.dataset(str(self.path))
        except (OSError, RuntimeError, ValueError) as error:
            raise DamagedStore(str(self.path), str(error)) from error

    @contextmanager
    def commit(self, action: str) -> Iterator[None]:
        """Surround everything that changes the table: whoever lost the KB's lease is stopped before it does.

        Raises:
            LeaseLost: another run took over.
            DamagedStore: a merge or a delete, which reads before it writes, met a file that cannot be read.
        """
        if self._is_pinned:
            raise RuntimeError(f"{self.path} is open at version {self.version}, for reading")
        self._may_write()
        failpoint(f"{self.role}.{action}.before")
        try:
            yield
        except (OSError, RuntimeError) as error:
            if "LanceError(IO)" in str(error):
                raise DamagedStore(str(self.path), str(error)) from error
            raise
        failpoint(f"{self.role}.{action}.after")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Surround everything that reads rows; raises DamagedStore for a file that is missing or cut off."""
        import pyarrow as pa

        try:
            yield
        except (OSError, RuntimeError, pa.ArrowInvalid) as error:  # the last comes from streams
            raise DamagedStore(str(self.path), str(error)) from error
