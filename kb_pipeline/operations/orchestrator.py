"""The interface of the orchestrator to operations: add KBs, and remove the records of deleted ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from kb_pipeline.model import KbKey
from kb_pipeline.operations.delete import RunHistory


class Orchestrator(Protocol):
    """The part of Dagster that operations need."""

    def add_partitions(self, keys: Sequence[KbKey]) -> None:
        """Add the KBs, so that they can be launched and are shown at once."""
        ...

    def open_history(self) -> AbstractContextManager[RunHistory]:
        """Open the records of runs, to remove those of a deleted KB."""
        ...
