"""Reads the events of a run from Dagster's storage, as lines for people."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from kb_pipeline.operations.run_log import LogLine

_TYPE = dg.DagsterEventType
_LEVELS = {"DEBUG": "debug", "INFO": "info", "WARNING": "warning", "ERROR": "error", "CRITICAL": "error"}
_ERRORS = {_TYPE.STEP_FAILURE, _TYPE.RUN_FAILURE, _TYPE.RESOURCE_INIT_FAILURE}
_TOLD: Mapping[dg.DagsterEventType, str] = {
    _TYPE.RUN_ENQUEUED: "waits in the queue",
    _TYPE.RUN_START: "started",
    _TYPE.STEP_START: "begins",
    _TYPE.STEP_SUCCESS: "done",
    _TYPE.STEP_SKIPPED: "skipped",
    _TYPE.RUN_CANCELING: "is being cancelled",
    _TYPE.RUN_CANCELED: "cancelled",
    _TYPE.RUN_SUCCESS: "succeeded",
}
"""Events whose own message says no more than this."""
_WORDY = {_TYPE.STEP_FAILURE, _TYPE.STEP_UP_FOR_RETRY, _TYPE.RUN_FAILURE, _TYPE.RESOURCE_INIT_FAILURE}
_PAGE = 500


class DagsterRunLog:
    """The events of one run; see operations.run_log.RunLog."""

    def __init__(self, instance: dg.DagsterInstance, run_id: str) -> None:
        self._instance, self._run_id = instance, run_id
        self._cursor: str | None = None

    def read(self) -> list[LogLine]:
        """Return the lines since the last call."""
        lines: list[LogLine] = []
        has_more = True
        while has_more:
            page = self._instance.get_records_for_run(self._run_id, self._cursor, limit=_PAGE)
            self._cursor, has_more = page.cursor, page.has_more
            lines += (line for record in page.records if (line := _line(record.event_log_entry)) is not None)
        return lines

    def has_ended(self) -> bool:
        """Return whether the run has ended, or is not known at all."""
        run = self._instance.get_run_by_id(self._run_id)
        return run is None or run.is_finished


def _line(entry: dg.EventLogEntry) -> LogLine | None:
    """Return an event as a line; None for those that say nothing to people."""
    event = entry.dagster_event
    level: Any = _LEVELS.get(logging.getLevelName(entry.level), "info")
    if event is None:
        said = entry.user_message.strip()
        return _make(entry, level, said) if said and int(entry.level) >= logging.INFO else None
    if event.event_type is _TYPE.ASSET_CHECK_EVALUATION:
        check = event.asset_check_evaluation_data
        verdict = "passed" if check.passed else "did not pass"
        level = "info" if check.passed else "error" if check.severity is dg.AssetCheckSeverity.ERROR else "warning"
        return _make(entry, level, f"check {check.check_name} {verdict}: {check.description or ''}".rstrip(": "))
    if event.event_type in _TOLD:
        return _make(entry, level, _TOLD[event.event_type])
    if event.event_type in _WORDY:
        level = "error" if event.event_type in _ERRORS else "warning"
        return _make(entry, level, _reason(event) or (event.message or "").splitlines()[0])
    return None


def _reason(event: dg.DagsterEvent) -> str:
    """Return why a step failed in the words of whoever raised it, without a trace."""
    failure = getattr(event, "event_specific_data", None)
    described = getattr(getattr(failure, "user_failure_data", None), "description", None)
    error = getattr(failure, "error", None)
    while error is not None and error.cause is not None:
        error = error.cause
    return described or (error.message.strip() if error is not None else "")


def _make(entry: dg.EventLogEntry, level: Any, message: str) -> LogLine:  # noqa: ANN401 - one of the literal's values
    return LogLine(datetime.fromtimestamp(entry.timestamp, UTC), level, entry.step_key, message)
