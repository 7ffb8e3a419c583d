"""Leaves the CPU to the runs of other tenants while a run's own tenant has more of them."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from kb_pipeline.defs.partitions import PARTITION_TAG, tags_of
from kb_pipeline.processes import be_nice

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def count_unfinished(instance: dg.DagsterInstance, tags: Mapping[str, str]) -> int:
    """Return how many runs with these tags wait or are under way."""
    return instance.get_runs_count(dg.RunsFilter(tags=tags, statuses=_UNFINISHED))


def leave_cpu_to_others(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Make this process nice while the run's tenant has runs of other KBs.

    So a tenant with one KB at work is not slowed down by one with many. Runs of the same KB are not counted: they wait
    for one another.
    """
    from kb_pipeline.control.runs.priorities import niceness

    if own := tags_of(run.tags.get(PARTITION_TAG)):
        of_tenant = count_unfinished(instance, {"kb/tenant": own["kb/tenant"]})
        be_nice(niceness(of_tenant - count_unfinished(instance, own)))
