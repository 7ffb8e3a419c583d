"""Reads what a run did, line by line, while it runs or afterwards."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs.refreshes import get_refresh, latest_refresh
from kb_pipeline.errors import UnknownRun
from kb_pipeline.model import KbKey, Record

_POLL_S = 0.5
_RUN_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_SHOWN = 100
"""Characters of what is no id that are quoted."""


@dataclass(frozen=True, slots=True)
class LogLine(Record):
    """One thing that a run did or said."""

    at: datetime
    level: Literal["debug", "info", "warning", "error"]
    stage: str | None
    """The asset that it is about; None for the run as a whole."""
    message: str


class RunLog(Protocol):
    """The events of one run, as the orchestrator keeps them."""

    def read(self) -> list[LogLine]:
        """Return the lines since the last call."""
        ...

    def has_ended(self) -> bool:
        """Return whether no more lines come."""
        ...


def run_named(db: Database, key: KbKey, run_id: str | None) -> str:
    """Return the run of a KB that is meant, without an id the newest; raise UnknownRun if there is none such."""
    if run_id is not None and not _RUN_ID.fullmatch(run_id):
        raise UnknownRun(key, run_id[:_SHOWN])
    found = latest_refresh(db, key) if run_id is None else get_refresh(db, key, run_id)
    if found is None:
        raise UnknownRun(key, run_id)
    return found.run_id


def read_lines(log: RunLog, *, follow: bool) -> Iterator[LogLine]:
    """Yield the lines so far; with `follow` also those that come, until the run has ended."""
    while True:
        is_last = not follow or log.has_ended()
        yield from log.read()
        if is_last:
            return
        time.sleep(_POLL_S)
