"""What Dagster has recorded of a tenant or KB goes, on SQLite and on Postgres; what it has of others stays."""

# No `from __future__ import annotations`: Dagster reads the annotations of an asset's parameters.

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import TickData, TickStatus
from sqlalchemy import create_engine, inspect, text

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.tenancy.tenants import list_tenants, schedule_deletion
from kb_pipeline.definitions import defs
from kb_pipeline.defs.instance import open_instance
from kb_pipeline.defs.partitions import add_partition, knowledge_bases, tags_of
from kb_pipeline.defs.removal import DagsterHistory
from kb_pipeline.model import KbKey
from kb_pipeline.operations.delete import DeletionTarget
from kb_pipeline.settings import Settings, load_settings
from kb_pipeline_tests.control.planes import apply

pytestmark = pytest.mark.upgrade("dagster")

ACME, WIKI, OTHER = KbKey("acme", "docs"), KbKey("acme", "docs-2"), KbKey("bacme", "docs")


@dg.asset(
    partitions_def=knowledge_bases,
    check_specs=[dg.AssetCheckSpec("good", asset="pages")],
)
def pages(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster refuses the argument
    print("captured of", context.partition_key)
    return dg.MaterializeResult(
        metadata={"kb": context.partition_key}, check_results=[dg.AssetCheckResult(passed=True, check_name="good")]
    )


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("KB_DATABASE_URL", raising=False)
    if request.param == "postgres":
        url: str = request.getfixturevalue("fresh_postgres")
        monkeypatch.setenv("KB_DATABASE_URL", url.replace("postgresql+psycopg", "postgresql"))
    return load_settings()


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """With a run, a tick and a backfill of each of three KBs."""
    with open_instance(settings) as instance:
        for key in (OTHER, WIKI, ACME):
            add_partition(instance, key)
            tags = tags_of(str(key))
            assert dg.materialize([pages], partition_key=str(key), instance=instance, tags=tags).success
            put_tick(instance, key)
            put_backfill(instance, key)
        instance.get_latest_materialization_code_versions([dg.AssetKey("pages")])
        yield instance


def put_backfill(instance: dg.DagsterInstance, key: KbKey) -> None:
    from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

    instance.add_backfill(
        PartitionBackfill(
            f"backfill-{key.tenant}-{key.kb}", BulkActionStatus.COMPLETED_SUCCESS, from_failure=False, tags={},
            backfill_timestamp=time.time(), partition_names=[str(key)],
        )
    )  # fmt: skip


def put_tick(instance: dg.DagsterInstance, key: KbKey) -> None:
    from dagster._core.definitions.run_request import InstigatorType

    instance.create_tick(
        TickData(
            "origin", "sensor", InstigatorType.SENSOR, TickStatus.SUCCESS, time.time(), run_ids=[],
            selector_id="selector", run_keys=[f"{key}@2026-01-01"],
        )
    )  # fmt: skip


def places_with(settings: Settings, word: str) -> set[str]:
    """Return the files (SQLite) or tables (Postgres) of Dagster that contain a word."""
    found = {
        str(path.relative_to(settings.dagster_dir))
        for path in settings.dagster_dir.rglob("*")
        if path.is_file() and word.encode() in path.read_bytes()
    }
    if settings.is_postgres:
        engine = create_engine(settings.database_url)
        with engine.connect() as connection:
            for table in inspect(engine).get_table_names():
                rows = connection.execute(text(f"SELECT t::text FROM {table} t")).scalars()
                found |= {table for row in rows if word in row}
        engine.dispose()
    return found


def test_nothing_of_a_deleted_tenant_is_left_and_everything_of_the_other_one(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    history, target, other = DagsterHistory(instance), DeletionTarget("acme"), DeletionTarget("bacme")
    theirs = history.count(other)
    assert history.count(target) | {"Dagster events of its partitions": 0} == {
        "Dagster runs": 2, "Dagster events of its partitions": 0, "Dagster partitions": 2, "Dagster ticks": 2,
        "Dagster backfills": 2, "Dagster sensors whose last run was of it": 0,
    }  # fmt: skip
    history.remove(target)
    assert set(history.count(target).values()) == {0}
    assert history.count(other) == theirs
    assert places_with(settings, "bacme/docs")
    for name in places_with(settings, "acme/docs"):
        body = _text_of(settings, name)
        assert body.count("acme/docs") == body.count("bacme/docs"), name
    assert instance.get_latest_materialization_event(dg.AssetKey("pages")) is not None
    history.remove(target)  # again, as after a kill


def test_events_that_a_late_process_wrote_of_a_run_that_is_gone_go_too(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    if settings.is_postgres:
        pytest.skip("there events are rows of one table, found by their partition")
    (run_id,) = DagsterHistory(instance).run_ids(DeletionTarget("bacme"))
    late = settings.dagster_dir / "history/runs/late.db"
    late.write_bytes((late.parent / f"{run_id}.db").read_bytes())
    DagsterHistory(instance).remove_orphans()
    assert not late.exists()
    assert (late.parent / f"{run_id}.db").exists()


def _text_of(settings: Settings, name: str) -> str:
    path = settings.dagster_dir / name
    if path.is_file():
        return path.read_bytes().decode(errors="replace")
    engine = create_engine(settings.database_url)
    with engine.connect() as connection:
        found = "\n".join(connection.execute(text(f"SELECT t::text FROM {name} t")).scalars())
    engine.dispose()
    return found


def test_one_kb_goes_and_one_whose_name_begins_so_stays(instance: dg.DagsterInstance) -> None:
    history, kept = DagsterHistory(instance), DeletionTarget("acme", "docs-2")
    before = history.count(kept)
    history.remove(DeletionTarget("acme", "docs"))
    assert set(history.count(DeletionTarget("acme", "docs")).values()) == {0}
    assert history.count(kept) == before
    assert before["Dagster runs"] == before["Dagster ticks"] == before["Dagster partitions"] == 1


def test_the_nightly_job_removes_what_is_due(instance: dg.DagsterInstance, settings: Settings) -> None:
    db = Database(settings.database_url)
    for key in (ACME, OTHER):
        apply(db, key)
    schedule_deletion(db, "acme", timedelta(0), "tester")
    assert defs.resolve_job_def("housekeeping").execute_in_process(instance=instance).success
    assert [tenant.tenant for tenant in list_tenants(db)] == ["bacme"]
    assert set(DagsterHistory(instance).count(DeletionTarget("acme")).values()) == {0}
    db.dispose()


def test_what_waits_in_the_queue_is_cancelled(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(
        dg.define_asset_job("job", [pages]).resolve(asset_graph=dg.Definitions([pages]).resolve_asset_graph()),
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags=tags_of(str(ACME)),
    )
    DagsterHistory(instance).stop(DeletionTarget("acme"), 0.1)
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status == dg.DagsterRunStatus.CANCELED
