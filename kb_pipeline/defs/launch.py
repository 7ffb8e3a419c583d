"""Runs `refresh_kb` in this process: `python -m kb_pipeline.defs.launch TENANT/KB RUN_ID PARENT_PID [OPTION...]`.

An option is `force`, `retry` or `retry=ID,ID`; see the tags in partitions.py.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

from kb_pipeline.processes import collect_garbage_rarely, die_with_parent

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from kb_pipeline.model import KbKey

_INTERRUPTED = 130
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""All events are in the instance; on a terminal they would hide the progress display."""


def launch(key: KbKey, run_id: str, options: Sequence[str]) -> bool:
    """Execute the job as an ordinary run of this home's instance; return whether it succeeded."""
    from dagster._utils.interrupts import capture_interrupts

    from kb_pipeline.definitions import defs
    from kb_pipeline.defs.instance import open_instance
    from kb_pipeline.defs.partitions import add_partition, option_tags, tags_of
    from kb_pipeline.defs.reaper import reap
    from kb_pipeline.defs.resources import open_database
    from kb_pipeline.settings import load_settings

    with open_instance(load_settings()) as instance:
        add_partition(instance, key)
        reap(instance, open_database(), suspects={})  # without a daemon, nothing else ends dead runs
        with capture_interrupts():  # from here on the run is ended by them, at its next step if not within one
            result = defs.resolve_job_def("refresh_kb").execute_in_process(
                instance=instance,
                partition_key=str(key),
                tags=tags_of(str(key)) | option_tags(options),
                run_id=run_id,
                run_config=_QUIET,
                raise_on_error=False,
            )
        _report_cancelled(instance, key, run_id)
    return result.success


def _report_cancelled(instance: DagsterInstance, key: KbKey, run_id: str) -> None:
    """Tell Dagster that a run was cancelled: it takes an interrupt that nobody asked of it for a failure."""
    from kb_pipeline.control.runs.refreshes import get_refresh
    from kb_pipeline.defs.resources import open_database

    row, run = get_refresh(open_database(), key, run_id), instance.get_run_by_id(run_id)
    if row is not None and row.status == "cancelled" and run is not None and run.is_failure_or_canceled:
        instance.report_run_canceled(run, "cancelled with Ctrl-C")


def _end_at_once(_signum: int, _frame: FrameType | None) -> None:
    """End this process without cleaning up: nothing has been begun, and imports may swallow an exception."""
    os._exit(_INTERRUPTED)


def main() -> int:
    """Run one job; return 0 when it succeeded."""
    signal.signal(signal.SIGINT, _end_at_once)
    die_with_parent(signal.SIGINT, int(sys.argv[3]))
    collect_garbage_rarely()
    from kb_pipeline.model import KbKey

    return 0 if launch(KbKey.parse(sys.argv[1]), sys.argv[2], sys.argv[4:]) else 1


if __name__ == "__main__":
    sys.exit(main())
