"""The run queue: tags runs with tenant and plan, refuses those of inactive tenants, and sets priorities and limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._core.run_coordinator.queued_run_coordinator import RunQueueConfig
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.tags import PRIORITY_TAG

from kb_pipeline.defs.jobs import ASSETS, refresh_kb
from kb_pipeline.defs.niceness import count_unfinished
from kb_pipeline.defs.partitions import PARTITION_TAG, PLAN_TAGS, tags_of
from kb_pipeline.defs.resources import key_of, open_database, queue_tags
from kb_pipeline.errors import KbError
from kb_pipeline.model import KbKey

if TYPE_CHECKING:
    from kb_pipeline.control.runs.priorities import QueuePolicy


class TenantRunCoordinator(dg.QueuedRunCoordinator):
    """Tags every queued run with its tenant, KB and plan, wherever it comes from: web UI, backfill, command or sensor.

    Otherwise a run started in the web UI would have only its partition, and limits per tenant would not apply. The
    limits themselves are data, the tenants' plans, which are read each time the daemon looks at the queue.
    """

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Queue the run with its tenant's priority; fail it at once, with the reason, if it cannot do anything."""
        run = context.dagster_run
        try:
            key = _key_of(run)
        except KbError as error:
            self._instance.report_run_failed(run, message=str(error))
            return self._reloaded(run)
        if key is None:
            return super().submit_run(context)
        self._instance.add_run_tags(run.run_id, tags_of(str(key)) | self._queue_tags(key.tenant, run))
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
        return queue_tags(tenant) | ({} if PRIORITY_TAG in run.tags else priority)

    def _reloaded(self, run: DagsterRun) -> DagsterRun:
        return self._instance.get_run_by_id(run.run_id) or run


def _key_of(run: DagsterRun) -> KbKey | None:
    """Return the KB of a run over this project's assets; None of any other run.

    Raises:
        InvalidKey, UsageError: its partition is no KB's key, or it has none.
        UnknownKb: the key is free to be typed in the web UI, and no KB is there.
        TenantInactive: the tenant is suspended, or being deleted.
    """
    from kb_pipeline.control.kbs.catalog import get_kb
    from kb_pipeline.control.tenancy.tenants import require_active

    if run.job_name != refresh_kb.name and not ASSETS & (run.asset_selection or set()):
        return None
    key = key_of(run)
    get_kb(open_database(), key)
    require_active(open_database(), key.tenant)
    return key
