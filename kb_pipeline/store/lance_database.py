"""A folder of Lance tables, opened, made, repaired and dropped."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kb_pipeline.errors import DamagedStore
from kb_pipeline.failpoints import failpoint
from kb_pipeline.store.durable_files import move_to_quarantine
from kb_pipeline.store.stage_tables import INDEX_PREFIX, role_of
from kb_pipeline.store.table import LanceTable
from kb_pipeline.store.table_handle import TableHandle, anyone_may_write

if TYPE_CHECKING:
    import pyarrow as pa

_DROPPED = ".dropped-"
"""Before the name of a table that is being removed."""


class LanceDatabase:
    """The tables of one KB, or of one tenant's embedding cache."""

    def __init__(self, path: Path, may_write: Callable[[], None] = anyone_may_write) -> None:
        import lance

        self.path, self._may_write = path, may_write
        # Tables that are opened again find in it what they had read of their indexes.
        self._session = lance.Session()  # type: ignore[attr-defined]

    def open(self, name: str, version: int | None = None) -> LanceTable:
        """Open an existing table, at its head or pinned to a version; raises DamagedStore."""
        import lance

        path = self.path / f"{name}.lance"
        try:
            table = lance.dataset(str(path), version=version, session=self._session)
        except (OSError, ValueError, RuntimeError) as error:
            raise DamagedStore(f"table {name} in {self.path}", str(error)) from error
        return LanceTable(TableHandle(table, path, self._may_write, is_pinned=version is not None))

    def open_or_create(self, name: str, schema: pa.Schema) -> LanceTable:
        """Open the head of a table, made empty if it does not exist; raises DamagedStore.

        A table of an earlier release gets the columns that it lacks, filled with nulls.
        """
        if not (self.path / f"{name}.lance").exists():
            self._may_write()
            self._create(name, schema)
        table = self.open(name)
        if lacking := [field for field in schema if field.name not in table.schema.names]:
            table.add_columns(lacking)
        return table

    def _create(self, name: str, schema: pa.Schema) -> None:
        import lance

        path, has_indexes = self.path / f"{name}.lance", name.startswith(INDEX_PREFIX)
        # An index then names rows by ids that stay when their files are rewritten, so it needs no rewriting itself.
        # Only tables that are searched have indexes; in the others rows are updated in place, which such ids make
        # dearer.
        try:
            lance.write_dataset(schema.empty_table(), str(path), enable_stable_row_ids=has_indexes)
        except OSError:
            if not path.exists():
                raise
            # another process was first; its table is as good

    def exists(self, name: str) -> bool:
        """Whether there is such a table."""
        return (self.path / f"{name}.lance").exists()

    def names(self, prefix: str) -> list[str]:
        """Return the tables whose name begins so, sorted."""
        return sorted(path.stem for path in self.path.glob(f"{prefix}*.lance"))

    def age_s(self, name: str) -> float:
        """Return the seconds since the table's newest commit."""
        commits = (self.path / f"{name}.lance" / "_versions").glob("*")
        return time.time() - max((path.stat().st_mtime for path in commits), default=0.0)

    def drop(self, name: str) -> None:
        """Remove a table with all its versions; killed half-way it is gone all the same."""
        self._may_write()
        failpoint(f"{role_of(name)}.drop.before")
        gone = self.path / f"{_DROPPED}{name}"
        shutil.rmtree(gone, ignore_errors=True)
        (self.path / f"{name}.lance").replace(gone)
        for rest in self.path.glob(f"{_DROPPED}*"):
            shutil.rmtree(rest, ignore_errors=True)
        failpoint(f"{role_of(name)}.drop.after")

    def repair(self, name: str, good: int | None, quarantine: Path) -> str | None:
        """Make the head of a table readable; says what was done, None when nothing was wrong.

        Args:
            name: the table.
            good: the version to go back to when the head's data is damaged; without one the table is emptied.
            quarantine: where damaged files are moved.
        """
        self._may_write()
        moved = self._move_damaged_manifests(name, quarantine)
        if not self.exists(name):
            return f"table {name}: no version can be opened; it is made anew"
        table = self.open(name)
        if table.is_whole():
            return f"table {name}: {moved} damaged commits set aside" if moved else None
        if good is not None and self._is_whole_at(name, good):
            table.restore(good)
            return f"table {name}: data cannot be read or occurs twice; went back to the last version published"
        table.clear()
        return f"table {name}: data cannot be read or occurs twice, and no version published is whole; it is made anew"

    def _move_damaged_manifests(self, name: str, quarantine: Path) -> int:
        """Move manifests away until the table opens: one damaged newest manifest hides every older version."""
        moved = 0
        while True:
            try:
                self.open(name)
            except DamagedStore:
                manifests = (self.path / f"{name}.lance" / "_versions").glob("*.manifest")
                newest = min(manifests, key=lambda path: path.name, default=None)  # the newest has the smallest name
                move_to_quarantine(newest or self.path / f"{name}.lance", quarantine)
                moved += 1
                if newest is None:
                    return moved
            else:
                return moved

    def _is_whole_at(self, name: str, version: int) -> bool:
        try:
            return self.open(name, version).is_whole()
        except DamagedStore:
            return False
