"""Sensors, coordinator and instance, against real Dagster instances."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from kb_pipeline.control.coordination import leases
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.db.models import Job, Kb
from kb_pipeline.control.kbs.catalog import apply_spec
from kb_pipeline.control.metering import limits
from kb_pipeline.control.runs import refreshes
from kb_pipeline.control.runs.heartbeats import give_up
from kb_pipeline.control.runs.jobs import get_job
from kb_pipeline.control.runs.requests import request_run
from kb_pipeline.control.runs.status import describe_kb
from kb_pipeline.definitions import defs
from kb_pipeline.defs.instance import POOLS, open_instance, prepare_pools
from kb_pipeline.defs.lost_jobs import end_lost_jobs
from kb_pipeline.defs.partitions import add_partition, knowledge_bases, tags_of
from kb_pipeline.defs.resources import open_database
from kb_pipeline.defs.sensors import catalogue_sync, request_due, requested_refreshes
from kb_pipeline.model import KbKey
from kb_pipeline.settings import load_settings
from kb_pipeline.spec.kb_file import parse_spec

DOCS, WIKI = KbKey("acme", "docs"), KbKey("globex", "wiki")


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance(load_settings()) as instance:
        yield instance


def apply(key: KbKey, cron: str | None = None) -> None:
    schedule = f"schedule: {{cron: '{cron}'}}\n" if cron else ""
    source = "{name: site, type: web, start_urls: ['http://site.example/']}"
    yaml = f"tenant: {key.tenant}\nkb: {key.kb}\nsources: [{source}]\n{schedule}"
    apply_spec(open_database(), parse_spec(yaml, "test"), yaml, "tester")


def backdate(key: KbKey, created_at: datetime) -> None:
    with open_database().write_all() as session:
        session.get_one(Kb, (key.tenant, key.kb)).created_at = created_at


def sync(instance: dg.DagsterInstance) -> dg.SensorResult:
    context = dg.build_sensor_context(instance=instance, definitions=defs)
    result = catalogue_sync(context)
    assert isinstance(result, dg.SensorResult)
    for request in result.dynamic_partitions_requests or []:
        if isinstance(request, dg.AddDynamicPartitionsRequest):
            instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        else:
            for key in request.partition_keys:
                instance.delete_dynamic_partition(request.partitions_def_name, key)
    return result


def test_the_catalogue_becomes_partitions_and_new_kbs_are_refreshed_once(instance: dg.DagsterInstance) -> None:
    apply(DOCS)
    apply(WIKI)
    instance.add_dynamic_partitions("knowledge_bases", ["../etc", "gone/kb"])  # the web UI lets anyone add anything
    first = sync(instance)
    assert [request.partition_key for request in first.run_requests or []] == ["acme/docs", "globex/wiki"]
    assert set(instance.get_dynamic_partitions("knowledge_bases")) == {"acme/docs", "globex/wiki"}
    assert (first.run_requests or [])[0].tags["kb/tenant"] == "acme"
    keys = [request.run_key for request in sync(instance).run_requests or []]
    assert keys == [request.run_key for request in first.run_requests or []]  # Dagster runs a key once
    refreshes.begin_refresh(open_database(), DOCS, "run-1")
    assert [request.partition_key for request in sync(instance).run_requests or []] == ["globex/wiki"]


def test_new_kbs_of_one_tenant_neither_hide_another_tenants_nor_are_asked_for_twice(
    instance: dg.DagsterInstance,
) -> None:
    for number in range(120):  # more than one tick asks for, all of them before the other tenant by name
        apply(KbKey("acme", f"kb-{number}"))
    apply(WIKI)
    asked = sync(instance).run_requests or []
    assert "globex/wiki" in [request.partition_key for request in asked]
    for request in asked:  # they wait in the queue for as long as it takes, or were taken out of it
        run = dg.DagsterRun("refresh_kb", tags={"dagster/run_key": request.run_key or ""})
        instance.run_storage.add_run(run)
    assert len({request.run_key for request in [*asked, *(sync(instance).run_requests or [])]}) == 121


def test_a_due_kb_is_refreshed_once_a_tick_and_a_backlog_is_one_run(instance: dg.DagsterInstance) -> None:
    apply(DOCS, "*/5 * * * *")
    apply(WIKI)
    backdate(DOCS, datetime(2026, 1, 1, tzinfo=UTC))
    for key in (DOCS, WIKI):
        add_partition(instance, key)
    cursor, keys = None, []
    for minute in (3, 4, 5, 6, 31):  # first start, nothing due, due, not again, back after 25 minutes
        now = datetime(2026, 1, 1, 10, minute, tzinfo=UTC)
        context = dg.build_sensor_context(instance=instance, definitions=defs, cursor=cursor)
        result = request_due(context, now)
        cursor = result.cursor
        keys.append([request.run_key for request in result.run_requests or []])
    assert keys == [[], [], ["acme/docs@2026-01-01T10:05:00+00:00"], [], ["acme/docs@2026-01-01T10:30:00+00:00"]]


def test_a_tick_before_the_kb_existed_is_not_due(instance: dg.DagsterInstance) -> None:
    apply(DOCS, "* * * * *")
    add_partition(instance, DOCS)
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    cursor = json.dumps([hour_ago, hour_ago, None])
    context = dg.build_sensor_context(instance=instance, definitions=defs, cursor=cursor)
    assert not request_due(context, datetime.now(UTC)).run_requests


def test_more_due_kbs_than_one_tick_may_ask_for_are_made_up_and_every_tenant_has_some_at_once(
    instance: dg.DagsterInstance,
) -> None:
    keys = [*(KbKey("acme", f"kb-{number}") for number in range(130)), WIKI]
    for key in keys:
        apply(key, "0 10 * * *")
        backdate(key, datetime(2026, 1, 1, tzinfo=UTC))
    instance.add_dynamic_partitions("knowledge_bases", [str(key) for key in keys])
    asked: list[str | None] = []
    cursor = json.dumps(["2026-01-01T08:00:00+00:00", "2026-01-01T09:00:00+00:00", None])
    for minute in (1, 2, 3):
        context = dg.build_sensor_context(instance=instance, definitions=defs, cursor=cursor)
        result = request_due(context, datetime(2026, 1, 1, 10, minute, tzinfo=UTC))
        cursor = result.cursor or cursor
        asked += [request.run_key for request in result.run_requests or []]
    assert len(asked) == len(set(asked)) == 131
    assert "globex/wiki@2026-01-01T10:00:00+00:00" in asked[:2]


def test_a_request_is_asked_for_until_its_run_is_there(instance: dg.DagsterInstance) -> None:
    apply(DOCS)
    asked = request_run(open_database(), DOCS, ["force"], "mary").id

    def tick() -> dg.SensorResult:
        result = requested_refreshes(dg.build_sensor_context(instance=instance, definitions=defs))
        assert isinstance(result, dg.SensorResult)
        return result

    def requested() -> list[dg.RunRequest]:
        return list(tick().run_requests or [])

    (partition,) = tick().dynamic_partitions_requests or []
    assert list(partition.partition_keys) == [str(DOCS)]
    add_partition(instance, DOCS)
    assert not tick().dynamic_partitions_requests
    (first,), (again,) = requested(), requested()
    assert (first.run_key, first.partition_key, first.tags) == (
        f"request/{asked}", str(DOCS),
        {"kb/tenant": "acme", "kb/kb": "docs", "kb/force": "true", "kb/request": asked},
    )  # fmt: skip
    assert again == first  # Dagster makes one run of a run key
    run = instance.create_run_for_job(defs.resolve_job_def("refresh_kb"), tags=dict(first.tags))
    assert requested() == []
    assert describe_kb(open_database(), DOCS).requested == ()
    with open_database().read(DOCS.tenant) as session:
        assert session.get_one(Job, (DOCS.tenant, DOCS.kb, asked)).run_id == run.run_id
    instance.report_run_canceled(run)
    requested()
    assert get_job(open_database(), DOCS.tenant, asked).state == "cancelled"


def test_the_job_of_a_lost_run_goes_on_with_the_run_that_dagster_starts_in_its_place(
    instance: dg.DagsterInstance,
) -> None:
    apply(DOCS)
    job, db = defs.resolve_job_def("refresh_kb"), open_database()
    lost, following = (instance.create_run_for_job(job) for _ in range(2))
    refreshes.begin_refresh(db, DOCS, lost.run_id)
    end_lost_jobs(instance, db)
    assert get_job(db, DOCS.tenant, lost.run_id).state == "running"
    assert give_up(db, lost.run_id, None, "its worker is dead", is_tried_again=True)
    instance.report_run_failed(lost)
    instance.add_run_tags(lost.run_id, {"dagster/auto_retry_run_id": following.run_id})
    end_lost_jobs(instance, db)
    assert get_job(db, DOCS.tenant, lost.run_id).run_id == following.run_id
    assert not get_job(db, DOCS.tenant, lost.run_id).has_ended
    instance.report_run_failed(following, "the code location is gone")
    end_lost_jobs(instance, db)
    ended = get_job(db, DOCS.tenant, lost.run_id)
    assert (ended.state, ended.has_ended) == ("failed", True)
    assert "the code location is gone" in (ended.message or "")


def test_keys_that_are_no_kbs_get_no_tags() -> None:
    assert tags_of("acme/docs") == {"kb/tenant": "acme", "kb/kb": "docs"}
    assert tags_of("../etc") == {}
    assert tags_of(None) == {}


@pytest.mark.upgrade("dagster")
def test_the_instance_runs_on_postgres_when_the_control_plane_does(
    home: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    monkeypatch.setenv("KB_DATABASE_URL", postgres_url)
    with open_instance(load_settings()) as instance:
        add_partition(instance, DOCS)
        assert "acme/docs" in instance.get_dynamic_partitions(str(knowledge_bases.name))
        assert "Postgres" in type(instance.run_storage).__name__
    apply(DOCS)
    assert describe_kb(Database(load_settings().database_url), DOCS).status == "new"


def test_jobs_schedules_and_sensors_are_what_the_readme_says() -> None:
    repository = defs.get_repository_def()
    assert {job.name for job in repository.get_all_jobs()} >= {"refresh_kb", "housekeeping"}
    sensors = {"catalogue_sync", "due_refreshes", "lost_refreshes", "reap_dead_runs", "requested_refreshes"}
    assert {sensor.name for sensor in repository.sensor_defs} == sensors
    assert [schedule.name for schedule in repository.schedule_defs] == ["nightly_housekeeping"]


def test_every_asset_says_what_it_is() -> None:
    graph = defs.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description
        assert node.group_name
        assert node.owners
        assert node.kinds


def test_a_lost_workers_lease_runs_out(home: Path) -> None:
    apply(DOCS)
    lease = leases.acquire_lease(open_database(), DOCS, "lost")
    assert leases.current_lease(open_database(), DOCS) is not None
    leases.release_lease(open_database(), lease)
    assert leases.current_lease(open_database(), DOCS) is None


@pytest.mark.upgrade("dagster")
def test_the_pools_of_the_assets_have_their_limits_before_runs_meet_them(instance: dg.DagsterInstance) -> None:
    used = {pool for asset in defs.resolve_asset_graph().assets_defs for pool in [asset.op.pool] if pool}
    assert used == POOLS
    for _ in range(2):
        prepare_pools(instance)
        storage = instance.event_log_storage
        assert {pool: storage.get_concurrency_info(pool).slot_count for pool in POOLS} == dict.fromkeys(POOLS, 4)


def test_a_snoozed_kb_waits_until_its_quota_renews_and_goes_on_then(instance: dg.DagsterInstance) -> None:
    apply(DOCS, "*/5 * * * *")
    apply(WIKI)  # refreshed by hand, and stopped by its quota all the same
    begin, renews_at = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    for key in (DOCS, WIKI):
        backdate(key, begin)
        add_partition(instance, key)
        limits.snooze(open_database(), key, renews_at)

    def due(since: datetime, now: datetime) -> list[str | None]:
        cursor = json.dumps([since.isoformat(), since.isoformat(), None])
        context = dg.build_sensor_context(instance=instance, definitions=defs, cursor=cursor)
        return [request.run_key for request in request_due(context, now).run_requests or []]

    hour = timedelta(hours=1)
    assert due(begin, begin + hour) == []
    assert due(renews_at - hour, renews_at) == [f"{key}@{renews_at.isoformat()}" for key in (DOCS, WIKI)]
    assert due(renews_at, renews_at + hour) == [f"{DOCS}@{(renews_at + hour).isoformat()}"]
