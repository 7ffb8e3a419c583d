"""Checks Dagster's daemons, code server, schemas and runs; each check returns a sentence or raises Unhealthy."""

from __future__ import annotations

import time

import dagster as dg
from dagster._core.scheduler.instigation import TickStatus

from kb_pipeline.control.db.engine import Database
from kb_pipeline.defs.reaper import list_workers, reap_dead_runs
from kb_pipeline.errors import Unhealthy

_FRESH_S = 120.0
"""Daemons send a heartbeat every 30 s; the reaper's sensor is evaluated every 15 s."""


def check_daemons(instance: dg.DagsterInstance, *, is_required: bool) -> str:
    """Return the age of each daemon's last heartbeat; raise Unhealthy if one is late.

    Without `is_required`, no daemon needs to run, but some of them running without the others is always a fault.
    """
    beats = instance.get_daemon_heartbeats()
    ages = {
        kind: time.time() - beats[kind].timestamp if kind in beats else None
        for kind in sorted(instance.get_required_daemon_types())
    }
    last_seen = ", ".join(f"{kind} {'never' if age is None else f'{age:.0f} s ago'}" for kind, age in ages.items())
    if not beats and not is_required:
        return "not running, nor ever did: sensors, schedules and queued runs wait for kb ui"
    late = [kind for kind, age in ages.items() if age is None or age > _FRESH_S]
    if len(late) == len(ages) and not is_required:
        return f"not running: sensors, schedules and queued runs wait for kb ui (last seen: {last_seen})"
    if late:
        raise Unhealthy(f"{', '.join(late)} not running; start the daemon (kb ui does) (last seen: {last_seen})")
    return f"running: {last_seen}"


def is_daemon_alive(instance: dg.DagsterInstance) -> bool:
    """Return whether a daemon gave a sign of life lately."""
    return any(time.time() - beat.timestamp <= _FRESH_S for beat in instance.get_daemon_heartbeats().values())


def check_code_server(instance: dg.DagsterInstance) -> str:
    """Return when the code server last evaluated a sensor; raise Unhealthy if that is too long ago.

    It has no heartbeat that others can see, so its evaluations serve as one.
    """
    if not is_daemon_alive(instance):
        return "not asked: no daemon is running"
    age = _seconds_since_tick(instance, reap_dead_runs.name)
    if age is None or age > _FRESH_S:
        last_seen = "never" if age is None else f"{age:.0f} s ago"
        raise Unhealthy(
            f"the daemon runs, and no sensor was evaluated (last: {last_seen}); restart kb ui or the code server"
        )
    return f"evaluated a sensor {age:.0f} s ago"


def check_schemas(instance: dg.DagsterInstance) -> str:
    """Raise Unhealthy unless Dagster's tables are those of the installed Dagster."""
    storages = {
        "runs": instance.run_storage.alembic_version(),
        "events": instance.event_log_storage.alembic_version(),
        "schedules": instance.schedule_storage.alembic_version() if instance.schedule_storage else None,
    }
    old = [name for name, version in storages.items() if version is not None and version[0] != version[1]]
    if old:
        raise Unhealthy(f"Dagster's tables of {', '.join(old)} are of another version; run: dagster instance migrate")
    return "Dagster's tables are up to date"


def check_runs(instance: dg.DagsterInstance, db: Database) -> str:
    """Return how many runs are executing; raise Unhealthy if one has no living worker."""
    working = [worker for worker in list_workers(instance, db) if worker.run and not worker.run.is_finished]
    dead = [f"{worker.run_id}: {worker.describe()}" for worker in working if worker.state != "alive"]
    if dead:
        raise Unhealthy(f"{'; '.join(dead)} (kb ui ends such runs within two minutes, as does the next kb build)")
    return f"{len(working)} at work"


def _seconds_since_tick(instance: dg.DagsterInstance, sensor: str) -> float | None:
    """Return the seconds since the last evaluation that the code server completed, or None."""
    states = [state for state in instance.all_instigator_state() if state.name == sensor]
    ticks = [
        tick
        for state in states
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=20)
        if tick.status in (TickStatus.SUCCESS, TickStatus.SKIPPED)
    ]
    return min((time.time() - tick.timestamp for tick in ticks), default=None)
