"""The run queue: who a run belongs to, whether it may run at all, and when it is its turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import RunQueueConfig
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.tags import PRIORITY_TAG

from kb_pipeline.defs.partitions import PLAN_TAGS, tags_of
from kb_pipeline.errors import TenantInactive, UnknownTenant
from kb_pipeline.processes import be_nice

if TYPE_CHECKING:
    from kb_pipeline.control.runs.priorities import QueuePolicy

_PARTITION_TAG = "dagster/partition"
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def count_unfinished(instance: dg.DagsterInstance, tags: Mapping[str, str]) -> int:
    """The runs with these tags that wait or are under way."""
    return instance.get_runs_count(dg.RunsFilter(tags=tags, statuses=_UNFINISHED))


def leave_cpu_to_others(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Make this process nice while the run's tenant has more of them: those of tenants with one KB at work go before.

    Runs of the same KB are not counted: they wait for one another.
    """
    from kb_pipeline.control.runs.priorities import niceness

    if own := tags_of(run.tags.get(_PARTITION_TAG)):
        of_tenant = count_unfinished(instance, {"kb/tenant": own["kb/tenant"]})
        be_nice(niceness(of_tenant - count_unfinished(instance, own)))


class TenantRunCoordinator(dg.QueuedRunCoordinator):
    """Tags every queued run with its tenant, KB and plan, whoever asked: web UI, backfill, command line or sensor.

    Without it a run started in the web UI carries only its partition, and limits per tenant do not apply. The limits
    themselves are data, the tenants' plans: they are read anew each time the daemon looks at the queue.
    """

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Queue the run in its tenant's turn; one of a tenant that is not active fails at once, with the reason."""
        from kb_pipeline.control.tenancy.tenants import require_active
        from kb_pipeline.defs.resources import open_database

        run = context.dagster_run
        tags = tags_of(run.tags.get(_PARTITION_TAG))
        if not tags:
            return super().submit_run(context)
        tenant = tags["kb/tenant"]
        try:
            require_active(open_database(), tenant)
        except TenantInactive as refused:
            self._instance.report_run_failed(run, message=str(refused))
            return self._reloaded(run)
        except UnknownTenant:
            pass  # whoever opens the KB says so
        self._instance.add_run_tags(run.run_id, tags | self._turn(tenant, run))
        return super().submit_run(context._replace(dagster_run=self._reloaded(run)))

    def get_run_queue_config(self) -> RunQueueConfig:
        """One writer a KB, few backfills at once, for each plan as many runs a tenant as it says, but never all."""
        from kb_pipeline.control.runs.priorities import list_terms
        from kb_pipeline.defs.resources import open_database

        config, each = super().get_run_queue_config(), {"applyLimitPerUniqueValue": True}
        limits: list[dict[str, Any]] = [
            {"key": _PARTITION_TAG, "limit": 1, "value": each},
            {"key": "dagster/backfill", "limit": 2},
            *(
                {
                    "key": f"{PLAN_TAGS}{terms.plan}",
                    "limit": terms.runs_at_once(config.max_concurrent_runs),
                    "value": each,
                }
                for terms in list_terms(open_database())
            ),
        ]
        return config._replace(tag_concurrency_limits=limits)

    def _turn(self, tenant: str, run: DagsterRun) -> dict[str, str]:
        from kb_pipeline.control.runs.priorities import terms_of
        from kb_pipeline.defs.resources import open_database

        terms: QueuePolicy = terms_of(open_database(), tenant)
        priority = {PRIORITY_TAG: str(terms.priority(count_unfinished(self._instance, {"kb/tenant": tenant})))}
        # An operator's own priority stays.
        return {"kb/plan": terms.plan, f"{PLAN_TAGS}{terms.plan}": tenant} | (
            {} if PRIORITY_TAG in run.tags else priority
        )

    def _reloaded(self, run: DagsterRun) -> DagsterRun:
        return self._instance.get_run_by_id(run.run_id) or run
