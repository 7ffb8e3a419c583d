"""Runs in containers, end to end against a stand-in engine: launched from the queue, published, cancelled."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from kb_pipeline.control.db.engine import Database
from kb_pipeline.control.runs.status import describe_kb
from kb_pipeline.defs.launchers import STOP_TIMEOUT_S
from kb_pipeline.settings import load_settings
from kb_pipeline_tests.deploy.engine import Container, Engine, serve_engine
from kb_pipeline_tests.deploy.roles import KEY, Roles, apply_kb, play_roles, wait_until
from kb_pipeline_tests.site import Site

pytestmark = pytest.mark.upgrade("dagster")

IMAGE = "registry.example/kb-pipeline:1.2"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Start an engine whose images contain Python and this code."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    code = str(Path(__file__).parents[2])
    with serve_engine({"PATH": path, "PYTHONPATH": code, "PYTHONUNBUFFERED": "1"}, tmp_path) as engine:
        yield engine


@pytest.fixture
def roles(
    home: Path, models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine, fresh_postgres: str
) -> Iterator[Roles]:
    secret = tmp_path / "database_url"
    secret.write_text(fresh_postgres)
    monkeypatch.delenv("KB_DATABASE_URL", raising=False)
    monkeypatch.setenv("KB_DATABASE_URL_FILE", str(secret))
    monkeypatch.setenv("KB_RUN_LAUNCHER", "docker")
    monkeypatch.setenv("KB_RUN_IMAGE", IMAGE)
    monkeypatch.setenv("KB_RUN_VOLUMES", f"{home}:{home},{models_dir}:{models_dir},{secret}:{secret}:ro")
    monkeypatch.setenv("KB_FILE_VARIABLES", "DOCS_TOKEN,NOT_SET_HERE")
    monkeypatch.setenv("KB_DOCKER_NETWORK", "kb")
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    monkeypatch.setenv("DOCS_TOKEN", "t0ken")
    monkeypatch.setenv("UNRELATED_SECRET", "hunter2")
    with play_roles() as roles:
        yield roles


def dequeue(roles: Roles, engine: Engine) -> Container:
    """Return the container that the daemon starts for the queued run."""
    roles.dequeue()
    [container] = engine.containers.values()
    return container


def live_version() -> object:
    return describe_kb(Database(load_settings().database_url), KEY).live_version


def test_a_refresh_launched_from_the_web_ui_runs_in_a_container_and_publishes(
    roles: Roles, engine: Engine, site: Site, fresh_postgres: str
) -> None:
    apply_kb(site.url)
    run_id = roles.launch()
    container = dequeue(roles, engine)
    assert container.wait(120) == 0, engine.log(container)
    assert roles.run(run_id).status == dg.DagsterRunStatus.SUCCESS, engine.log(container)
    assert live_version() == 1
    assert site.asked["/"] == 1

    spec, host = container.spec, container.spec["HostConfig"]
    assert (spec["Image"], host["NetworkMode"]) == (IMAGE, "kb")
    assert spec["Labels"]["dagster/run_id"] == run_id
    assert host["ReadonlyRootfs"]
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges"])
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (4096 << 20, 2_000_000_000, 512)
    assert set(container.environment) == {
        "DAGSTER_RUN_JOB_NAME", "DOCS_TOKEN", "KB_ALLOW_PRIVATE_NETWORKS", "KB_DATABASE_URL_FILE", "KB_FILE_VARIABLES",
        "KB_HOME", "KB_RUN_LAUNCHER",
    }  # fmt: skip
    assert "hunter2" not in str(spec)
    assert fresh_postgres not in str(spec)  # the secret is in its file only
    # What the daemon's socket proxy must let through, and nothing more.
    assert set(engine.calls) == {
        ("GET", "/version"), ("POST", "/containers/create"), ("GET", "/containers/ID/json"),
        ("POST", "/containers/ID/start"),
    }  # fmt: skip


@pytest.mark.parametrize("role", ["daemon", "web UI"])
def test_cancel_ends_the_run_in_its_container(
    roles: Roles, engine: Engine, home: Path, site: Site, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    reached, answer = threading.Event(), threading.Event()

    def hang() -> dict[str, str]:
        reached.set()
        answer.wait(60)
        return {}

    site.headers = hang
    apply_kb(site.url)
    run_id = roles.launch()
    container = dequeue(roles, engine)
    try:
        wait_until(reached.is_set)
        if role == "daemon":
            assert roles.instance.run_launcher.terminate(run_id)
            assert container.stop_timeout_s == STOP_TIMEOUT_S
        else:  # it cannot reach the engine
            monkeypatch.setenv("KB_RUN_LAUNCHER", "elsewhere")
            monkeypatch.delenv("DOCKER_HOST")
            with play_roles(with_code=False) as web_ui:
                web_ui.terminate(run_id)
            # What runs print is in the shared home, for the web UI to show.
            wait_until(lambda: any("sending interrupt" in out.read_text() for out in home.rglob("*.out")))
            answer.set()  # the request under way is waited for, but not for ever
        container.wait(60)
    finally:
        answer.set()
    assert roles.run(run_id).status == dg.DagsterRunStatus.CANCELED, engine.log(container)
    assert (("POST", "/containers/ID/stop") in engine.calls) == (role == "daemon")
    assert live_version() is None


def test_a_container_that_is_gone_is_no_running_worker(roles: Roles, engine: Engine, site: Site) -> None:
    apply_kb(site.url)
    run_id = roles.launch()
    container = dequeue(roles, engine)

    def health() -> str:
        return str(roles.instance.run_launcher.check_run_worker_health(roles.run(run_id)).status.value)

    assert health() == "RUNNING"
    container.kill()
    assert health() == "FAILED"
    del engine.containers[container.id]  # an engine removes it by itself
    assert health() == "NOT_FOUND"
