"""Says what operations ask of the orchestrator: to know the KBs, and to forget what was deleted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from kb_pipeline.model import KbKey
from kb_pipeline.operations.delete import RunHistory


class Orchestrator(Protocol):
    """Dagster, as far as operations need it."""

    def add_partitions(self, keys: Sequence[KbKey]) -> None:
        """Make the KBs known, so that they can be launched and seen at once."""
        ...

    def open_history(self) -> AbstractContextManager[RunHistory]:
        """Open what is kept of runs, to remove a deleted KB's from it."""
        ...
