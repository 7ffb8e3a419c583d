"""Runs `refresh_kb` in this process: `python -m kb_pipeline.defs.launch TENANT/KB RUN_ID PARENT_PID [OPTION...]`.

An option is `force`, `retry` or `retry=ID,ID`; see the tags in partitions.py.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kb_pipeline.processes import collect_garbage_rarely, die_with_parent

if TYPE_CHECKING:
    from kb_pipeline.model import KbKey

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""All events are in the instance; on a terminal they would hide the progress display."""


def launch(key: KbKey, run_id: str, options: Sequence[str]) -> bool:
    """Execute the job as an ordinary run of this home's instance; return whether it succeeded."""
    from kb_pipeline.definitions import defs
    from kb_pipeline.defs.instance import open_instance
    from kb_pipeline.defs.partitions import add_partition, option_tags, tags_of
    from kb_pipeline.defs.reaper import reap
    from kb_pipeline.defs.resources import open_database
    from kb_pipeline.settings import load_settings

    with open_instance(load_settings()) as instance:
        add_partition(instance, key)
        reap(instance, open_database(), suspects={})  # without a daemon, nothing else ends dead runs
        result = defs.resolve_job_def("refresh_kb").execute_in_process(
            instance=instance,
            partition_key=str(key),
            tags=tags_of(str(key)) | option_tags(options),
            run_id=run_id,
            run_config=_QUIET,
            raise_on_error=False,
        )
    return result.success


def main() -> int:
    """Run one job; return 0 when it succeeded."""
    die_with_parent(signal.SIGINT, int(sys.argv[3]))
    collect_garbage_rarely()
    from kb_pipeline.model import KbKey

    return 0 if launch(KbKey.parse(sys.argv[1]), sys.argv[2], sys.argv[4:]) else 1


if __name__ == "__main__":
    sys.exit(main())
