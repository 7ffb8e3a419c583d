"""`/healthz` and `/readyz`: what is away is named to anybody, and why only to the log."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs.heartbeats import note_daemon
from kb_pipeline.service import health
from kb_pipeline_tests.databases import ON_POSTGRES
from kb_pipeline_tests.operations.home import Home
from kb_pipeline_tests.service.serving import PROBLEM, in_process


@pytest.fixture
def looked_at_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_KEPT_S", -1.0)


def test_a_process_that_answers_is_alive_whatever_is_away(http: TestClient) -> None:
    assert http.get("/healthz").json() == {"status": "alive"}


@pytest.mark.usefixtures("looked_at_each_time")
def test_kbs_are_read_without_a_daemon_and_it_is_named(http: TestClient, two_tenants: Home) -> None:
    found = http.get("/readyz")
    assert found.status_code == 200
    assert found.json()["dependencies"] == {"database": "ok", "storage": "ok", "model": "ok", "daemon": "away"}
    note_daemon(Database(two_tenants.settings.database_url))
    assert http.get("/readyz").json()["dependencies"]["daemon"] == "ok"


@pytest.mark.usefixtures("looked_at_each_time")
def test_what_cannot_be_used_is_named_to_strangers_and_its_place_only_to_the_log(
    tmp_path: Path, models_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, health.__name__)
    home = Home(tmp_path / "home", models_dir)
    with in_process(home) as http:
        assert http.get("/readyz").status_code == 200
        shutil.rmtree(home.settings.data_dir, ignore_errors=True)
        home.settings.data_dir.parent.mkdir(parents=True, exist_ok=True)
        home.settings.data_dir.write_text("no folder")
        for _ in range(2):
            told = http.get("/readyz")
        home.settings.data_dir.unlink()
        assert http.get("/readyz").status_code == 200
    assert (told.status_code, told.headers["content-type"], told.headers["retry-after"]) == (503, PROBLEM, "5")
    assert told.json()["errors"] == [{"pointer": "/storage", "detail": "cannot be used"}]
    assert str(tmp_path) not in told.text
    lines = [each.getMessage() for each in caplog.records if each.getMessage().startswith("storage")]
    assert len(lines) == 2, "once when it went, once when it came back"
    assert str(home.settings.data_dir) in lines[0]


@pytest.mark.skipif(ON_POSTGRES, reason="breaks a file of SQLite")
@pytest.mark.usefixtures("looked_at_each_time")
def test_a_control_plane_that_is_broken_is_named(tmp_path: Path, models_dir: Path) -> None:
    home = Home(tmp_path / "home", models_dir)
    with in_process(home) as http:
        assert http.get("/readyz").status_code == 200
        with sqlite3.connect(home.settings.home / "control.db") as file:
            file.execute("DROP TABLE versions")
        told = http.get("/readyz")
    assert told.status_code == 503
    assert "cannot be used" in told.json()["detail"]
