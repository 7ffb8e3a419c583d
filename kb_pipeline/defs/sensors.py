"""Sensors that start refreshes, by catalogue, cron and request, and that record lost runs."""
# No `from __future__ import annotations`: Dagster reads the annotations of a sensor's parameters.

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import dagster as dg
from dagster._core.storage.tags import RUN_KEY_TAG

from kb_pipeline.control.kbs.catalog import KbRecord, list_kbs, list_unstarted_kbs
from kb_pipeline.control.runs.priorities import round_robin
from kb_pipeline.control.runs.refreshes import end_refresh
from kb_pipeline.control.runs.requests import RequestRecord, list_waiting, note_runs
from kb_pipeline.cron import newest_tick
from kb_pipeline.defs.jobs import refresh_kb
from kb_pipeline.defs.lost_jobs import end_lost_jobs
from kb_pipeline.defs.partitions import PARTITION_TAG, REQUEST_TAG, TRACE_TAG, knowledge_bases, option_tags, tags_of
from kb_pipeline.defs.resources import open_database
from kb_pipeline.errors import InvalidKey
from kb_pipeline.model import KbKey

_MAX_REQUESTS = 100
"""Runs requested in one tick: Dagster looks up each run key by a query of its own, within 60 s."""
_FIRST = "first/"


@dg.sensor(
    job=refresh_kb,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Keeps the partitions equal to the catalogue, and refreshes a new KB for the first time.",
)
def catalogue_sync(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Add and remove partitions; request the first refresh of every KB that has had none."""
    db = open_database()
    catalogued, present = {str(kb.key) for kb in list_kbs(db)}, set(_present(context))
    new, gone = sorted(catalogued - present), sorted(present - catalogued)
    changes: list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest] = []
    if new:
        changes.append(knowledge_bases.build_add_request(new))
    if gone:
        changes.append(knowledge_bases.build_delete_request(gone))
    requested = _requested_first_keys(context.instance)
    first = [
        _request(kb.key, key) for kb in round_robin(list_unstarted_kbs(db)) if (key := _first_key(kb)) not in requested
    ]
    skip = None if changes or first else "catalogue and partitions agree"
    return dg.SensorResult(run_requests=first[:_MAX_REQUESTS], dynamic_partitions_requests=changes, skip_reason=skip)


def _first_key(kb: KbRecord) -> str:
    """Return the run key of a KB's first refresh; with the creation time, since a KB that is applied again is new."""
    return f"{_FIRST}{kb.key}/{kb.created_at.isoformat()}"


def _requested_first_keys(instance: dg.DagsterInstance) -> set[str]:
    """Return the keys of first refreshes that exist, in any state: requesting them again would only take room."""
    return {key for _, keys in instance.get_run_tags([RUN_KEY_TAG], _FIRST) for key in keys}


@dg.sensor(
    job=refresh_kb,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Refreshes each KB by the cron and time zone of its own file; missed ticks become one run. One that a "
    "quota stopped waits until the quota renews, and continues then.",
)
def due_refreshes(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Request due refreshes; in a sensor, since its run keys are unique for ever, a schedule's only within a tick."""
    return request_due(context, datetime.now(UTC))


def request_due(context: dg.SensorEvaluationContext, now: datetime) -> dg.SensorResult:
    """Request a refresh of every KB with a tick since the last time; beyond `_MAX_REQUESTS`, next time."""
    window, present = _Window.read(context.cursor, now), set(_present(context))
    kbs = (kb for kb in list_kbs(open_database(), only_active=True) if str(kb.key) in present and window.has_left(kb))
    due = {kb: tick for kb in kbs if (tick := _newest_tick(kb, window))}
    requested = round_robin(due)[:_MAX_REQUESTS]
    left = window.without(requested) if len(requested) < len(due) else _Window(window.until, window.until, {})
    requests = [_request(kb.key, f"{kb.key}@{due[kb].isoformat()}") for kb in requested]
    return dg.SensorResult(run_requests=requests, cursor=left.write(), skip_reason=None if requests else "no KB is due")


def _newest_tick(kb: KbRecord, window: "_Window") -> datetime | None:
    """Return when the KB was due, by its cron or because the quota that stopped it has renewed, or None."""
    if kb.snoozed_until and kb.snoozed_until > window.until:
        return None
    if kb.snoozed_until and kb.snoozed_until > window.since:
        return kb.snoozed_until
    since = max(window.since, kb.created_at)
    return newest_tick(kb.cron, kb.timezone, since, window.until) if kb.cron else None


@dataclass(frozen=True, slots=True)
class _Window:
    """The ticks to request: those in (since, until], of the KBs after those in `done`."""

    since: datetime
    until: datetime
    done: dict[str, str]
    """The last requested KB of each tenant."""

    @classmethod
    def read(cls, cursor: str | None, now: datetime) -> "_Window":
        """Continue an unfinished window, else begin the one after it."""
        if not cursor:
            return cls(now, now, {})  # at the first start, no tick of the past is due
        since, until, done = json.loads(cursor)
        if not done:
            return cls(datetime.fromisoformat(until), now, {})
        # Cursors of former releases name one KB; requesting those before it again starts no run twice.
        return cls(datetime.fromisoformat(since), datetime.fromisoformat(until), done if isinstance(done, dict) else {})

    def has_left(self, kb: KbRecord) -> bool:
        """Return whether the KB is still to be requested."""
        return kb.key.kb > self.done.get(kb.key.tenant, "")

    def without(self, requested: list[KbRecord]) -> "_Window":
        """Return the window without these KBs, which were requested in the order of `round_robin`."""
        return replace(self, done=self.done | {kb.key.tenant: kb.key.kb for kb in requested})

    def write(self) -> str:
        """Return the window as the sensor's cursor."""
        return json.dumps([self.since.isoformat(), self.until.isoformat(), self.done])


@dg.sensor(
    job=refresh_kb,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts the refreshes that were asked for (`kb build --queue`, HTTP), each once; ends lost jobs.",
)
def requested_refreshes(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Request a run for each waiting request until it exists; the request's id is the run key, so it is one run.

    A new KB gets its partition here too, so that its first refresh need not wait for `catalogue_sync`.
    """
    db = open_database()
    waiting = list_waiting(db, _MAX_REQUESTS)
    started = _runs_of(context.instance, waiting)
    note_runs(db, started)
    end_lost_jobs(context.instance, db)
    left = [request for request in waiting if request not in started]
    new = sorted({str(request.key) for request in left} - set(_present(context)))
    return dg.SensorResult(
        run_requests=[_run_for(request) for request in left],
        dynamic_partitions_requests=[knowledge_bases.build_add_request(new)] if new else None,
        skip_reason=None if left else "no request waits",
    )


def _runs_of(instance: dg.DagsterInstance, requests: list[RequestRecord]) -> dict[RequestRecord, str]:
    if not requests:
        return {}
    runs = instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: [request.id for request in requests]}))
    started = {run.tags[REQUEST_TAG]: run.run_id for run in runs}
    return {request: started[request.id] for request in requests if request.id in started}


def _run_for(request: RequestRecord) -> dg.RunRequest:
    trace = {TRACE_TAG: request.traceparent} if request.traceparent else {}
    tags = option_tags(request.options) | {REQUEST_TAG: request.id} | trace
    return _request(request.key, f"request/{request.id}", tags)


@dg.run_failure_sensor(
    monitored_jobs=[refresh_kb],
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=15,
    description="Notes the end of refreshes whose worker was lost, so that their status does not stay 'running'.",
)
def lost_refreshes(context: dg.RunFailureSensorContext) -> None:
    """Record the end of a refresh whose worker was lost; one that ended by itself keeps its own message."""
    run = context.dagster_run
    try:
        key = KbKey.parse(run.tags.get(PARTITION_TAG, ""))
    except InvalidKey:
        return
    message = context.failure_event.message or "the run's worker was lost"
    end_refresh(open_database(), key, run.run_id, "failed", message=message)


def _request(key: KbKey, run_key: str, tags: Mapping[str, str] | None = None) -> dg.RunRequest:
    return dg.RunRequest(run_key=run_key, partition_key=str(key), tags=tags_of(str(key)) | dict(tags or {}))


def _present(context: dg.SensorEvaluationContext) -> list[str]:
    return list(context.instance.get_dynamic_partitions(str(knowledge_bases.name)))
