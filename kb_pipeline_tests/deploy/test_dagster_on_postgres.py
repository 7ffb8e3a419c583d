"""Every way to a refresh, with the control plane and Dagster's storage on an empty Postgres: a sensor, commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs.status import describe_kb
from kb_pipeline.defs.instance import open_instance
from kb_pipeline.settings import load_settings
from kb_pipeline_tests.deploy.roles import KEY, wait_until
from kb_pipeline_tests.kb import Kb
from kb_pipeline_tests.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.upgrade("dagster")]


@pytest.fixture
def kb(kb: Kb, home: Path, monkeypatch: pytest.MonkeyPatch, fresh_postgres: str) -> Kb:
    for left in list(home.rglob("*.db")):
        left.unlink()
    monkeypatch.setenv("KB_DATABASE_URL", fresh_postgres)
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    return kb


@pytest.fixture
def daemon(kb: Kb, site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """Sensors and the queue, on a home with a new KB."""
    assert kb.apply(site).status == 0
    command = [sys.executable, "-m", "dagster._daemon", "run", "-m", "kb_pipeline.definitions"]
    with (kb.folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=kb.folder, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def dagster(kb: Kb, *arguments: str) -> None:
    command = [sys.executable, "-m", "dagster", *arguments]
    done = subprocess.run(command, cwd=kb.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_sensor_dagsters_commands_and_kb_build_refresh_a_kb_on_postgres(
    kb: Kb, home: Path, site: Site, daemon: subprocess.Popen[bytes]
) -> None:
    database = Database(load_settings().database_url)

    def has_ended(status: str) -> bool:
        assert daemon.poll() is None
        return bool(describe_kb(database, KEY).status == status)

    try:
        wait_until(lambda: has_ended("ready"), 120)
        hits = kb("search", str(KEY), "ripen", "--json").json["hits"]
        assert hits[0]["key"] == f"{site.url}/pears"
        partition = f'{{"dagster/partition": "{KEY}"}}'
        dagster(kb, "job", "launch", "-m", "kb_pipeline.definitions", "-j", "refresh_kb", "--tags", partition)
        wait_until(lambda: has_ended("unchanged"), 120)
    except TimeoutError:
        pytest.fail((kb.folder / "daemon.log").read_text(errors="replace")[-5000:])
    dagster(kb, "asset", "materialize", "-m", "kb_pipeline.definitions", "--select", "*", "--partition", str(KEY))
    built = kb.build()
    assert (built.status, built.json["status"]) == (0, "unchanged"), built.err

    with open_instance(load_settings()) as instance:
        runs = instance.get_runs()
        assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS] * 4
        assert {run.tags["kb/tenant"] for run in runs} == {KEY.tenant}
        assert runs[-1].tags["dagster/sensor_name"] == "catalogue_sync"
    assert not list(home.rglob("*.db")), "nothing is left to SQLite"
    database.dispose()
