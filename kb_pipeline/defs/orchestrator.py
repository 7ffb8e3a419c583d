"""Tells this home's Dagster instance of KBs that are new, and lets it forget those that are deleted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kb_pipeline.defs.instance import open_instance, prepare_pools
from kb_pipeline.defs.partitions import add_partition
from kb_pipeline.defs.removal import DagsterHistory
from kb_pipeline.model import KbKey
from kb_pipeline.operations.delete import RunHistory
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
