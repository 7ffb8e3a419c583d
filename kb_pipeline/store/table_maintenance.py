"""The files beneath a table: rewritten where they are wasteful, removed where no version needs them, listed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from kb_pipeline.errors import DamagedStore
from kb_pipeline.store.compaction import REWRITTEN_SHARE, DataFile, files_to_rewrite
from kb_pipeline.store.table_handle import TableHandle

NEWEST_MANIFEST = 2**64 - 1
"""Lance names its manifests by it minus their version, so that the newest is listed first."""
_COMPACTION_BATCH_ROWS = 1024
"""Rows in memory at a time while files are rewritten."""


class TableMaintenance:
    """The files of one table."""

    def __init__(self, handle: TableHandle) -> None:
        self._handle = handle

    def compact(self, share: float = REWRITTEN_SHARE) -> None:
        """Make small neighbours one, and the files with the most deleted rows free of them.

        Args:
            share: of the table that may be rewritten at once to be rid of deleted rows.
        """
        from lance.optimize import Compaction, CompactionOptions

        dataset = self._handle.head()
        files = [_data_file(fragment.metadata) for fragment in dataset.get_fragments()]
        chosen, rows_per_file = files_to_rewrite(files, share)
        if not chosen:
            return
        options: CompactionOptions = {
            "excluded_fragment_ids": [file.number for file in files if file.number not in chosen],
            "target_rows_per_fragment": rows_per_file,
            "materialize_deletions_threshold": 0.0,
            "batch_size": _COMPACTION_BATCH_ROWS,
        }
        # Lance merges no files that different index parts cover: they wait until the parts are one.
        if Compaction.plan(dataset, options).num_tasks():
            with self._handle.commit("optimize"):
                Compaction.execute(dataset, options)

    def rewrite_deleted(self) -> None:
        """Write every file that still holds deleted rows anew without them."""
        from lance.optimize import Compaction, CompactionOptions

        dataset = self._handle.head()
        deletions = {fragment.fragment_id: fragment.metadata.deletion_file for fragment in dataset.get_fragments()}
        options: CompactionOptions = {
            "excluded_fragment_ids": [number for number, deleted in deletions.items() if deleted is None],
            "materialize_deletions_threshold": 0.0,
            "batch_size": _COMPACTION_BATCH_ROWS,
        }
        if any(deleted is not None for deleted in deletions.values()):
            with self._handle.commit("rewrite"):
                Compaction.execute(dataset, options)
        self._handle.table.checkout_latest()

    def cleanup(self, older_than: timedelta, *, unfinished: bool = False) -> int:
        """Remove untagged versions older than that; returns the bytes freed.

        Args:
            older_than: age of the versions that may go.
            unfinished: remove files of commits that never came about too, whatever their age: only where nobody else
                can be writing.
        """
        with self._handle.commit("cleanup"):
            stats = self._handle.head().cleanup_old_versions(
                older_than, error_if_tagged_old_versions=False, delete_unverified=unfinished
            )
        return int(stats.bytes_removed)

    def deleted_rows(self) -> int:
        """Count the rows that were deleted and still lie in the files of what this handle sees."""
        return sum(fragment.num_deletions for fragment in self._handle.table.get_fragments())

    def untagged_versions(self) -> int:
        """Count the versions on disk that are neither the head nor tagged."""
        dataset = self._handle.head()
        tagged = {int(tag["version"]) for tag in self._handle.table.tags.list().values()}
        return len({each["version"] for each in dataset.versions()} - {dataset.version} - tagged)

    def files(self) -> list[str]:
        """List all that what this handle sees consists of, as paths below the table's folder; raises DamagedStore.

        Its files never change; with these alone the table opens as it is now, at this version.
        """
        version, path = self._handle.version, self._handle.path
        try:
            fragments, indexes = self._handle.table.get_fragments(), self._handle.table.describe_indices()
        except (OSError, RuntimeError, ValueError) as error:
            raise DamagedStore(str(path), str(error)) from error
        names = [f"data/{file.path}" for fragment in fragments for file in fragment.metadata.files]
        for fragment in fragments:
            if (deleted := fragment.metadata.deletion_file) is not None:
                names.append(deleted.path(fragment.fragment_id))
        folders = [f"_indices/{part.uuid}" for index in indexes for part in index.segments]
        patterns = [*(f"{folder}/**/*" for folder in folders), f"_transactions/{version - 1}-*.txn"]
        found = (each for pattern in patterns for each in sorted(path.glob(pattern)) if each.is_file())
        names += [str(each.relative_to(path)) for each in found]
        if lacking := [folder for folder in folders if not (path / folder).is_dir()]:
            raise DamagedStore(str(path), f"{lacking[0]} is missing")
        return [*names, f"_versions/{NEWEST_MANIFEST - version:020}.manifest"]


def _data_file(fragment: Any) -> DataFile:  # noqa: ANN401 - lance's own types say little
    stored = sum(file.file_size_bytes or 0 for file in fragment.files)
    deleted = fragment.deletion_file.num_deleted_rows if fragment.deletion_file else 0
    live = stored * (fragment.physical_rows - deleted) // max(1, fragment.physical_rows)
    return DataFile(fragment.id, fragment.physical_rows - deleted, stored, live)
