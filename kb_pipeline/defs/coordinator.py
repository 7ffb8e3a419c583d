"""The run queue: tags runs with tenant and plan, refuses those of inactive tenants, and sets priorities and limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import RunQueueConfig
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.tags import PRIORITY_TAG

from kb_pipeline.defs.niceness import count_unfinished
from kb_pipeline.defs.partitions import PARTITION_TAG, PLAN_TAGS, tags_of
from kb_pipeline.defs.resources import open_database
from kb_pipeline.errors import TenantInactive, UnknownTenant

if TYPE_CHECKING:
    from kb_pipeline.control.runs.priorities import QueuePolicy


class TenantRunCoordinator(dg.QueuedRunCoordinator):
    """Tags every queued run with its tenant, KB and plan, wherever it comes from: web UI, backfill, command or sensor.

    Otherwise a run started in the web UI would have only its partition, and limits per tenant would not apply. The
    limits themselves are data, the tenants' plans, which are read each time the daemon looks at the queue.
    """

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Queue the run with its tenant's priority; fail it at once, with the reason, if its tenant is not active."""
        from kb_pipeline.control.tenancy.tenants import require_active

        run = context.dagster_run
        tags = tags_of(run.tags.get(PARTITION_TAG))
        if not tags:
            return super().submit_run(context)
        tenant = tags["kb/tenant"]
        try:
            require_active(open_database(), tenant)
        except TenantInactive as error:
            self._instance.report_run_failed(run, message=str(error))
            return self._reloaded(run)
        except UnknownTenant:
            pass  # opening the KB raises it again
        self._instance.add_run_tags(run.run_id, tags | self._queue_tags(tenant, run))
        return super().submit_run(context._replace(dagster_run=self._reloaded(run)))

    def get_run_queue_config(self) -> RunQueueConfig:
        """Return the limits: one run a KB, two backfills, and for each plan its runs a tenant, but never all slots."""
        from kb_pipeline.control.runs.priorities import list_terms

        config, each = super().get_run_queue_config(), {"applyLimitPerUniqueValue": True}
        limits: list[dict[str, Any]] = [
            {"key": PARTITION_TAG, "limit": 1, "value": each},
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

    def _queue_tags(self, tenant: str, run: DagsterRun) -> dict[str, str]:
        from kb_pipeline.control.runs.priorities import terms_of

        terms: QueuePolicy = terms_of(open_database(), tenant)
        priority = {PRIORITY_TAG: str(terms.priority(count_unfinished(self._instance, {"kb/tenant": tenant})))}
        # A priority that an operator has set stays.
        return {"kb/plan": terms.plan, f"{PLAN_TAGS}{terms.plan}": tenant} | (
            {} if PRIORITY_TAG in run.tags else priority
        )

    def _reloaded(self, run: DagsterRun) -> DagsterRun:
        return self._instance.get_run_by_id(run.run_id) or run
