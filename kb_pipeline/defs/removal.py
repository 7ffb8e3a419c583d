"""Removes from Dagster's records what names a tenant or KB: runs, events, partitions, ticks, backfills, logs.

Dagster's API removes runs with their events, partitions and captured logs, but not evaluations of checks, an asset's
copy of its last event, tags of runs (on SQLite), ticks and backfills; those are removed from its tables directly.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.scheduler.instigation import SensorInstigatorData
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, AssetKeyTable, SqlEventLogStorageTable
from dagster._core.storage.runs.schema import BackfillTagsTable, BulkActionsTable, RunTagsTable
from dagster._core.storage.schedules.schema import JobTickTable

from kb_pipeline.defs.partitions import PARTITION_TAG, knowledge_bases
from kb_pipeline.failpoints import failpoint
from kb_pipeline.operations.delete import DeletionTarget

_POLL_S = 0.5
_SILENT_S = 60.0


class DagsterHistory:
    """What an instance has recorded of runs; see operations.delete.RunHistory."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        # Storages of Dagster's own kinds, all on SQL; the instance promises less of them.
        self._events: Any = instance.event_log_storage
        self._run_storage: Any = instance.run_storage
        self._schedules: Any = instance.schedule_storage

    def stop(self, target: DeletionTarget, wait_s: float) -> None:
        """Cancel queued runs, and wait for running ones, which find at their next step that they must end."""
        until = time.monotonic() + wait_s
        while open_runs := [run for run in self._runs(target) if not run.is_finished]:
            for run in open_runs:
                if run.status in (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED):
                    self._instance.report_run_canceled(run)
            if time.monotonic() >= until or not self._is_alive(open_runs):
                return
            time.sleep(_POLL_S)

    def run_ids(self, target: DeletionTarget) -> list[str]:
        """Return the ids of the runs over its partitions, however they were started."""
        return sorted({run.run_id for run in self._runs(target)})

    def count(self, target: DeletionTarget) -> dict[str, int]:
        """Count the records of each kind."""
        return {
            "Dagster runs": len(self.run_ids(target)),
            "Dagster events of its partitions": len(list(self._stray_events(target))),
            "Dagster partitions": len(self._partitions(target)),
            "Dagster ticks": len(self._naming(self._schedules, JobTickTable, "tick_body", target)),
            "Dagster backfills": len(self._naming(self._run_storage, BulkActionsTable, "body", target)),
            "Dagster sensors whose last run was of it": len(list(self._sensors(target))),
        }

    def remove(self, target: DeletionTarget) -> None:
        """Remove all records; a run's own goes last, since the others are found by it."""
        for run_id in self.run_ids(target):
            self._remove_run(run_id)
            failpoint("remove.run")
        for run_id in {run_id for _, run_id in self._stray_events(target)}:
            self._remove_run(run_id)
        for key in self._partitions(target):
            self._instance.delete_dynamic_partition(str(knowledge_bases.name), key)
        self._remove_ticks(target)
        self._remove_backfills(target)
        for state, data in list(self._sensors(target)):
            self._instance.update_instigator_state(state.with_data(data._replace(last_run_key=None)))
        # The web UI's cache of partitions is rebuilt on demand.
        self._instance.wipe_asset_cached_status(list(self._instance.all_asset_keys()))
        self.remove_orphans()
        self._vacuum()

    def remove_orphans(self) -> None:
        """Remove events (on SQLite) that a process wrote after its run had been removed."""
        if hasattr(self._events, "get_all_run_ids"):
            with_events = set(self._events.get_all_run_ids())  # read first: a run is recorded before its events
            for run_id in with_events - set(self._instance.get_run_ids()):
                self._remove_shard(run_id)

    def _runs(self, target: DeletionTarget) -> Iterator[dg.DagsterRun]:
        tags = {"kb/tenant": target.tenant} | ({"kb/kb": target.kb} if target.kb else {})
        yield from self._instance.get_runs(dg.RunsFilter(tags=tags))
        # Those that were refused before they were tagged, or started without the coordinator.
        for key in self._partitions(target):
            yield from self._instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: key}))

    def _is_alive(self, runs: list[dg.DagsterRun]) -> bool:
        """Return whether waiting can help: a run whose process died records nothing for a long time."""
        newest = max((record.update_timestamp.timestamp() for record in self._records(runs)), default=0.0)
        return time.time() - newest < _SILENT_S

    def _records(self, runs: list[dg.DagsterRun]) -> Iterator[Any]:
        ids = [run.run_id for run in runs]
        yield from self._instance.get_run_records(dg.RunsFilter(run_ids=ids))

    def _partitions(self, target: DeletionTarget) -> list[str]:
        keys = self._instance.get_dynamic_partitions(str(knowledge_bases.name))
        return [key for key in keys if target.covers(key)]

    def _remove_run(self, run_id: str) -> None:
        if hasattr(self._events, "path_for_shard"):  # SQLite: a file a run, and an index of all
            self._remove_shard(run_id)
        with self._events.index_connection() as connection:
            self._events.delete_events_for_run(connection, run_id)
            checks, assets = AssetCheckExecutionsTable, AssetKeyTable
            connection.execute(checks.delete().where(checks.c.run_id == run_id))
            last = assets.update().where(assets.c.last_run_id == run_id)
            connection.execute(last.values(last_materialization=None, last_run_id=None))
        self._events.free_concurrency_slots_for_run(run_id)
        self._instance.compute_log_manager.delete_logs(prefix=[run_id])
        with self._run_storage.connect() as connection:
            connection.execute(RunTagsTable.delete().where(RunTagsTable.c.run_id == run_id))
        self._run_storage.delete_run(run_id)

    def _remove_shard(self, run_id: str) -> None:
        shard = Path(self._events.path_for_shard(run_id))
        for path in (shard, *(shard.with_name(shard.name + end) for end in ("-wal", "-shm", "-journal"))):
            path.unlink(missing_ok=True)

    def _stray_events(self, target: DeletionTarget) -> Iterator[tuple[int, str]]:
        """Yield the events of its partitions in the index of all runs, also of runs whose record is gone."""
        table = SqlEventLogStorageTable
        query = table.select().where(table.c.partition.like(f"{target.tenant}/%"))
        with self._events.index_connection() as connection:
            for row in connection.execute(query):
                if target.covers(row.partition):
                    yield row.id, row.run_id

    def _naming(self, storage: Any, table: Any, column: str, target: DeletionTarget) -> list[Any]:  # noqa: ANN401 - Dagster's
        """Return the rows whose text names a key that is being deleted."""
        text = table.c[column]
        with storage.connect() as connection:
            rows = connection.execute(table.select().where(text.like(f"%{target.tenant}/%"))).fetchall()
        named = _pattern(target)
        return [row for row in rows if named.search(row._mapping[column])]

    def _remove_ticks(self, target: DeletionTarget) -> None:
        """Remove ticks that name it, also those that name other KBs too: a tick is only a record."""
        with self._schedules.connect() as connection:
            for row in self._naming(self._schedules, JobTickTable, "tick_body", target):
                connection.execute(JobTickTable.delete().where(JobTickTable.c.id == row.id))

    def _remove_backfills(self, target: DeletionTarget) -> None:
        """Remove backfills that name it, also those over other KBs' partitions too: their runs stay."""
        with self._run_storage.connect() as connection:
            for row in self._naming(self._run_storage, BulkActionsTable, "body", target):
                connection.execute(BackfillTagsTable.delete().where(BackfillTagsTable.c.backfill_id == row.key))
                connection.execute(BulkActionsTable.delete().where(BulkActionsTable.c.id == row.id))

    def _sensors(self, target: DeletionTarget) -> Iterator[tuple[Any, SensorInstigatorData]]:
        named = _pattern(target)
        for state in self._instance.all_instigator_state():
            data = state.instigator_data
            if isinstance(data, SensorInstigatorData) and named.search(data.last_run_key or ""):
                yield state, data

    def _vacuum(self) -> None:
        """Rewrite SQLite's files, which keep deleted text; Postgres reuses the space by itself."""
        if hasattr(self._events, "path_for_shard"):
            folder = Path(self._events.path_for_shard("index")).parent
            for path in (folder / "index.db", folder.parent / "runs.db", folder.parents[1] / "schedules/schedules.db"):
                if path.exists():
                    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
                        connection.execute("VACUUM")
                        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _pattern(target: DeletionTarget) -> re.Pattern[str]:
    """Return a pattern of its key as a whole, not as a part of another key."""
    tail = f"{re.escape(target.kb)}(?![a-z0-9-])" if target.kb else "[a-z0-9]"
    return re.compile(f"(?<![a-z0-9-]){re.escape(target.tenant)}/{tail}")
