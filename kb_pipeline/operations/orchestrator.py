"""The interface of the orchestrator to operations: KBs that are new or deleted, and the runs of the others."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from kb_pipeline.model import KbKey
from kb_pipeline.operations.delete import RunHistory
from kb_pipeline.operations.run_log import RunLog


class Orchestrator(Protocol):
    """The part of Dagster that operations need."""

    def add_partitions(self, keys: Sequence[KbKey]) -> None:
        """Add the KBs, so that they can be launched and are shown at once."""
        ...

    def open_history(self) -> AbstractContextManager[RunHistory]:
        """Open the records of runs, to remove those of a deleted KB."""
        ...

    def unfinished_runs(self, key: KbKey) -> list[str]:
        """Return the ids of a KB's runs that wait or run."""
        ...

    def cancel_run(self, run_id: str) -> None:
        """Take a run out of the queue, or tell its worker to end."""
        ...

    def open_log(self, run_id: str) -> AbstractContextManager[RunLog]:
        """Open the events of a run."""
        ...
