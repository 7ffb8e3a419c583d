"""What starts refreshes: the catalogue, each KB's cron, somebody who asks; and what notes that a run was lost."""
# No `from __future__ import annotations`: Dagster reads the annotations of a sensor's parameters.

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import dagster as dg

from kb_pipeline.control.catalogue import KbRecord, list_kbs, list_unstarted_kbs
from kb_pipeline.control.refreshes import end_refresh
from kb_pipeline.control.run_requests import WaitingRequest, list_waiting, note_runs
from kb_pipeline.control.schedule import newest_tick
from kb_pipeline.defs.jobs import refresh_kb
from kb_pipeline.defs.partitions import REQUEST_TAG, WISH_TAGS, knowledge_bases, tags_of
from kb_pipeline.defs.resources import open_database
from kb_pipeline.errors import InvalidKey
from kb_pipeline.model import KbKey

_MAX_REQUESTS = 100
"""Runs asked for in one tick: Dagster looks up each run key with a query of its own, within 60 s."""


@dg.sensor(
    job=refresh_kb,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Makes the partitions what the catalogue says, and refreshes a new KB for the first time.",
)
def catalogue_sync(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Add and remove partitions; ask for the first refresh of every KB that has had none."""
    db = open_database()
    wanted, present = {str(kb.key) for kb in list_kbs(db)}, set(_present(context))
    new, gone = sorted(wanted - present), sorted(present - wanted)
    changes: list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest] = []
    if new:
        changes.append(knowledge_bases.build_add_request(new))
    if gone:
        changes.append(knowledge_bases.build_delete_request(gone))
    # The creation time is part of the key: a KB removed and applied again is new.
    first = [_request(kb, f"first/{kb.key}/{kb.created_at.isoformat()}") for kb in list_unstarted_kbs(db)]
    skip = None if changes or first else "catalogue and partitions agree"
    return dg.SensorResult(run_requests=first[:_MAX_REQUESTS], dynamic_partitions_requests=changes, skip_reason=skip)


@dg.sensor(
    job=refresh_kb,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Refreshes each KB by the cron and time zone of its own file; missed ticks become one run. One that a "
    "quota stopped waits until the quota renews, and goes on then.",
)
def due_refreshes(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """A sensor, not a schedule: its run keys hold for ever, a schedule's only within one tick."""
    return request_due(context, datetime.now(UTC))


def request_due(context: dg.SensorEvaluationContext, now: datetime) -> dg.SensorResult:
    """Ask for a refresh of every KB with a tick since the last time; beyond `_MAX_REQUESTS`, next time."""
    window = _Window.read(context.cursor, now)
    kbs = list_kbs(open_database(), after=window.done, only_active=True)
    due = [(kb, tick) for kb in kbs if (tick := _newest_tick(kb, window))]
    present = set(_present(context))
    asked = [(kb, tick) for kb, tick in due if str(kb.key) in present][:_MAX_REQUESTS]
    is_capped = len(asked) == _MAX_REQUESTS
    left = replace(window, done=asked[-1][0].key) if is_capped else _Window(window.until, window.until, None)
    requests = [_request(kb, f"{kb.key}@{tick.isoformat()}") for kb, tick in asked]
    return dg.SensorResult(run_requests=requests, cursor=left.write(), skip_reason=None if requests else "no KB is due")


def _newest_tick(kb: KbRecord, window: "_Window") -> datetime | None:
    """When the KB was due, by its cron or because a quota that stopped it has renewed."""
    if kb.snoozed_until and kb.snoozed_until > window.until:
        return None
    if kb.snoozed_until and kb.snoozed_until > window.since:
        return kb.snoozed_until
    since = max(window.since, kb.created_at)
    return newest_tick(kb.cron, kb.timezone, since, window.until) if kb.cron else None


@dataclass(frozen=True, slots=True)
class _Window:
    """The ticks being looked at: those in (since, until], of the KBs after `done`."""

    since: datetime
    until: datetime
    done: KbKey | None

    @classmethod
    def read(cls, cursor: str | None, now: datetime) -> "_Window":
        """Go on with a window that was capped, else look at what came since the last one."""
        if not cursor:
            return cls(now, now, None)  # never fires for the past at first start
        since, until, done = json.loads(cursor)
        if done is None:
            return cls(datetime.fromisoformat(until), now, None)
        return cls(datetime.fromisoformat(since), datetime.fromisoformat(until), KbKey.parse(done))

    def write(self) -> str:
        """As the sensor's cursor."""
        return json.dumps([self.since.isoformat(), self.until.isoformat(), str(self.done) if self.done else None])


@dg.sensor(
    job=refresh_kb,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts the refreshes that were asked for with `kb build --queue`, each once.",
)
def requested_refreshes(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """A request is asked for until its run is seen in the instance; its id is the run key, so it becomes one run."""
    db = open_database()
    waiting, present = list_waiting(db, _MAX_REQUESTS), set(_present(context))
    started = _runs_of(context.instance, waiting)
    note_runs(db, started)
    left = [request for request in waiting if request not in started and str(request.key) in present]
    return dg.SensorResult(
        run_requests=[_run_for(request) for request in left],
        skip_reason=None if left else "nobody waits for a refresh",
    )


def _runs_of(instance: dg.DagsterInstance, requests: list[WaitingRequest]) -> dict[WaitingRequest, str]:
    if not requests:
        return {}
    runs = instance.get_runs(dg.RunsFilter(tags={REQUEST_TAG: [request.id for request in requests]}))
    started = {run.tags[REQUEST_TAG]: run.run_id for run in runs}
    return {request: started[request.id] for request in requests if request.id in started}


def _run_for(request: WaitingRequest) -> dg.RunRequest:
    key = str(request.key)
    wishes = {f"{WISH_TAGS}{wish}": "true" for wish in request.wishes}
    tags = tags_of(key) | wishes | {REQUEST_TAG: request.id}
    return dg.RunRequest(run_key=f"request/{request.id}", partition_key=key, tags=tags)


@dg.run_failure_sensor(
    monitored_jobs=[refresh_kb],
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=15,
    description="Notes the end of refreshes whose worker was lost, so that their status does not stay 'running'.",
)
def lost_refreshes(context: dg.RunFailureSensorContext) -> None:
    """A refresh that ended by itself has its own message and keeps it."""
    run = context.dagster_run
    try:
        key = KbKey.parse(run.tags.get("dagster/partition", ""))
    except InvalidKey:
        return
    message = context.failure_event.message or "the run's worker was lost"
    end_refresh(open_database(), key, run.run_id, "failed", message=message)


def _request(kb: KbRecord, run_key: str) -> dg.RunRequest:
    return dg.RunRequest(run_key=run_key, partition_key=str(kb.key), tags=tags_of(str(kb.key)))


def _present(context: dg.SensorEvaluationContext) -> list[str]:
    return list(context.instance.get_dynamic_partitions(str(knowledge_bases.name)))
