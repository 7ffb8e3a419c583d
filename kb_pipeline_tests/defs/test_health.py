"""What `kb doctor` says of Dagster's parts, against real instances in every state."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat
from sqlalchemy import text

from kb_pipeline.cli import doctor
from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs.heartbeats import database_time
from kb_pipeline.defs.health import check_code_server, check_daemons, check_schemas
from kb_pipeline.defs.instance import open_instance
from kb_pipeline.errors import Unhealthy
from kb_pipeline.operations import health
from kb_pipeline.settings import load_settings

pytestmark = pytest.mark.upgrade("dagster")


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance(load_settings()) as instance:
        yield instance


def beat(instance: dg.DagsterInstance, seconds_ago: float, *, without: str = "") -> None:
    for kind in set(instance.get_required_daemon_types()) - {without}:
        instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - seconds_ago, kind, "id", None))


def test_a_home_without_a_daemon_is_in_order_and_a_server_is_not(instance: dg.DagsterInstance) -> None:
    assert "nor ever" in check_daemons(instance, is_required=False)
    assert "no daemon" in check_code_server(instance)
    with pytest.raises(Unhealthy, match="SENSOR"):
        check_daemons(instance, is_required=True)
    beat(instance, 3600)
    assert "not running" in check_daemons(instance, is_required=False)
    with pytest.raises(Unhealthy, match="not running"):
        check_daemons(instance, is_required=True)


def test_daemons_that_run_without_one_of_theirs_are_a_fault(instance: dg.DagsterInstance) -> None:
    beat(instance, 10, without="SENSOR")
    with pytest.raises(Unhealthy, match=r"^SENSOR not running"):
        check_daemons(instance, is_required=False)
    beat(instance, 10)
    assert check_daemons(instance, is_required=True).startswith("running")


def test_a_daemon_whose_code_server_does_not_answer_is_a_fault(instance: dg.DagsterInstance) -> None:
    beat(instance, 10)
    with pytest.raises(Unhealthy, match="no sensor"):
        check_code_server(instance)


def test_dagsters_tables_of_another_version_are_a_fault(instance: dg.DagsterInstance) -> None:
    assert "up to date" in check_schemas(instance)
    with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(text("UPDATE alembic_version SET version_num = '567bc23fd1ac'"))
    with pytest.raises(Unhealthy, match="tables of runs"):
        check_schemas(instance)


def test_the_databases_clock_is_this_machines(db: Database) -> None:
    assert abs(database_time(db) - time.time()) < 2


@pytest.mark.parametrize(("offset", "is_well"), [(0, True), (-1, True), (-3, False), (3, False)])
def test_a_clock_off_the_databases_by_more_than_two_seconds_is_a_fault(
    home: Path, monkeypatch: pytest.MonkeyPatch, offset: float, is_well: bool
) -> None:
    monkeypatch.setattr("kb_pipeline.control.runs.heartbeats.database_time", lambda _: time.time() + offset)
    assert doctor.run_check("clock", health.check_clock, load_settings()).ok is is_well


def test_time_that_goes_back_is_a_fault(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "time", SimpleNamespace(time=iter([2.0, 1.0]).__next__))
    finding = doctor.run_check("clock", health.check_clock, load_settings())
    assert not finding.ok
    assert "went back by 1.000 s" in finding.what
