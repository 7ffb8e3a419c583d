"""The resources of assets: KBs opened for one run, with errors translated to Dagster's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.storage.tags import RETRY_NUMBER_TAG, SCHEDULE_NAME_TAG, SENSOR_NAME_TAG

from kb_pipeline.control.runs.refreshes import Launch, get_refresh
from kb_pipeline.defs.niceness import leave_cpu_to_others
from kb_pipeline.defs.partitions import (
    FORCE_TAG,
    NAMES_NO_KB,
    PARTITION_TAG,
    PLAN_TAGS,
    REQUEST_TAG,
    RETRY_TAG,
    STATUS_TAG,
    ids_of,
    tags_of,
)
from kb_pipeline.defs.plain_failures import PlainFailures
from kb_pipeline.errors import ChildCrashed, KbError, LeaseHeld, UsageError
from kb_pipeline.model import KbKey
from kb_pipeline.settings import load_settings

if TYPE_CHECKING:
    from kb_pipeline.control.db.engine import Database
    from kb_pipeline.embed.model_cache import ModelCache
    from kb_pipeline.operations.refresh import RefreshRun

_RETRIES = 2
_WAIT_S = {LeaseHeld: 30, ChildCrashed: 5}
"""Errors that are retried within the run, operations.refresh.TRIED_AGAIN."""


def open_database() -> Database:
    """Open the control plane of this home, with one pool of connections a process."""
    return _database(load_settings().database_url)


@cache
def _models(models_dir: Path) -> ModelCache:
    """Kept from one stage of a run to the next: the last checks embed once more."""
    from kb_pipeline.embed.model_cache import ModelCache

    return ModelCache(models_dir)


@lru_cache(maxsize=4)
def _database(url: str) -> Database:
    from kb_pipeline.control.db.engine import Database

    return Database(url)


class Workspaces(dg.ConfigurableResource[Any], PlainFailures):
    """Opens the KB of an asset's partition for writing, and sends heartbeats while the run executes."""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Workspaces]:
        """Send heartbeats around all steps: the in-process executor opens its resources right after the run's start."""
        from kb_pipeline.control.runs.heartbeats import beating

        if context.run and context.instance:
            _add_missing_tags(context.instance, context.run)
            leave_cpu_to_others(context.instance, context.run)
        with beating(open_database(), context.run.run_id) if context.run else nullcontext():
            yield self

    @contextmanager
    def open(self, context: dg.AssetExecutionContext) -> Iterator[RefreshRun]:
        """Hold the KB's lease within the context; errors become retries or failures of the step."""
        from kb_pipeline.operations.refresh import open_refresh_run

        run = context.run
        refuse_if_ended(context.instance, run.run_id)
        leave_cpu_to_others(context.instance, run)
        with translated_errors():
            key = key_of(run)
            force, retry = (run.tags.get(tag) == "true" for tag in (FORCE_TAG, RETRY_TAG))
            settings = load_settings()
            try:
                with open_refresh_run(
                    settings, open_database(), key, run.run_id, models=_models(settings.models_dir),
                    force=force, retry=retry, retry_ids=ids_of(run.tags.get(RETRY_TAG)), launch=_launch_of(run),
                ) as kb:  # fmt: skip
                    yield kb
                    if not _publishes(run) and kb.summary.ended() is None:
                        kb.end_partial(sorted(asset.to_user_string() for asset in run.asset_selection or ()))
            finally:
                _tag_with_status(context.instance, key, run.run_id)


def key_of(run: dg.DagsterRun) -> KbKey:
    """Return the KB of a run; raise InvalidKey, or UsageError if the run has no partition."""
    partition = run.tags.get(PARTITION_TAG)
    if partition is None:
        raise UsageError(NAMES_NO_KB)
    return KbKey.parse(partition)


def _launch_of(run: dg.DagsterRun) -> Launch:
    """Return the job that a run is, or goes on with: begun again by hand, it is another one."""
    is_retry, asked_for = RETRY_NUMBER_TAG in run.tags, run.tags.get(REQUEST_TAG)
    job_id = None
    if is_retry or run.parent_run_id is None:
        job_id = asked_for or run.root_run_id or run.run_id
    by = run.tags.get(SENSOR_NAME_TAG) or run.tags.get(SCHEDULE_NAME_TAG) or load_settings().actor
    options = (name for name, tag in (("force", FORCE_TAG), ("retry", RETRY_TAG)) if tag in run.tags)
    return Launch(job_id, by, tuple(options))


def queue_tags(tenant: str) -> dict[str, str]:
    """Return the tags by which the run queue limits the runs of a tenant: its plan, known or not."""
    from kb_pipeline.control.runs.priorities import terms_of

    plan = terms_of(open_database(), tenant).plan
    return {"kb/plan": plan, f"{PLAN_TAGS}{plan}": tenant}


def _add_missing_tags(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Add what the coordinator adds to queued runs, to one that came past the queue (`dagster asset materialize`)."""
    if own := tags_of(run.tags.get(PARTITION_TAG)):
        missing = own if "kb/plan" in run.tags else own | queue_tags(own["kb/tenant"])
        if new := missing.items() - run.tags.items():
            instance.add_run_tags(run.run_id, dict(new))


def _tag_with_status(instance: dg.DagsterInstance, key: KbKey, run_id: str) -> None:
    """Tag the run with how its refresh ended, if it has: the list of runs can be filtered by it."""
    refresh = get_refresh(open_database(), key, run_id)
    if refresh is not None and refresh.status != "running":
        instance.add_run_tags(run_id, {STATUS_TAG: refresh.status})


def refuse_if_ended(instance: dg.DagsterInstance, run_id: str) -> None:
    """Raise dg.Failure if the run was ended while its worker was suspended."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        raise dg.Failure("the run was ended while its worker gave no sign of life", allow_retries=False)


def _publishes(run: dg.DagsterRun) -> bool:
    """Return whether the run includes publishing; one over assets selected in the web UI may not."""
    # No selection means all assets of the job.
    return not run.asset_selection or dg.AssetKey("published_version") in run.asset_selection


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate errors of this project to Dagster's.

    Without a RetryPolicy, which with the in-process executor would turn Cancel into a retry.
    """
    try:
        yield
    except (LeaseHeld, ChildCrashed) as error:
        raise dg.RetryRequested(max_retries=_RETRIES, seconds_to_wait=_WAIT_S[type(error)]) from error
    except KbError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
