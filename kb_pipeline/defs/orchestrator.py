"""Uses this home's Dagster instance for operations: KBs that are new or deleted, and the runs of the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from kb_pipeline.defs.instance import open_instance, prepare_pools
from kb_pipeline.defs.partitions import PARTITION_TAG, add_partition
from kb_pipeline.defs.removal import DagsterHistory
from kb_pipeline.defs.run_log import DagsterRunLog
from kb_pipeline.model import KbKey
from kb_pipeline.operations.delete import RunHistory
from kb_pipeline.operations.run_log import RunLog
from kb_pipeline.settings import Settings


class DagsterOrchestrator:
    """The Dagster instance of one home, opened for each use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def add_partitions(self, keys: Sequence[KbKey]) -> None:
        """Add a partition for each KB that has none, and the pools that limit runs."""
        with open_instance(self._settings) as instance:
            prepare_pools(instance)
            for key in keys:
                add_partition(instance, key)

    @contextmanager
    def open_history(self) -> Iterator[RunHistory]:
        """Open the runs, events and partitions of this home."""
        with open_instance(self._settings) as instance:
            yield DagsterHistory(instance)

    def unfinished_runs(self, key: KbKey) -> list[str]:
        """Return the ids of a KB's runs that wait or run."""
        of_kb = dg.RunsFilter(tags={PARTITION_TAG: str(key)}, statuses=NOT_FINISHED_STATUSES)
        with open_instance(self._settings) as instance:
            return [run.run_id for run in instance.get_runs(of_kb)]

    def cancel_run(self, run_id: str) -> None:
        """Take a run out of the queue, or tell its worker to end."""
        with open_instance(self._settings) as instance:
            run = instance.get_run_by_id(run_id)
            if run is None or run.is_finished:
                return
            if run.status in (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED):
                instance.report_run_canceled(run)
            elif not instance.run_launcher.terminate(run_id):
                instance.report_run_canceling(run)  # its worker finds it at its next step

    @contextmanager
    def open_log(self, run_id: str) -> Iterator[RunLog]:
        """Open the events of a run."""
        with open_instance(self._settings) as instance:
            yield DagsterRunLog(instance, run_id)
